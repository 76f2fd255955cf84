"""Secrets in errors are hidden before the errors are stored, and nothing else is."""

from __future__ import annotations

import base64
import dataclasses
import socket
from collections import namedtuple
from typing import Any

import httpx
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.error import DBOSRecordedError, DBOSSerializationError
from tidings.serialization import JSONSerializer, dump, dump_error, load, load_error
from tidings.serialization.hiding import hide_in_text

JSON = JSONSerializer()
SECRET = "s3cr3t-0f-all"  # not the tests' own password: here it is looked for where it must be found, too


@dataclasses.dataclass
class Login:
    user: str
    password: str | None = None


@dataclasses.dataclass
class Client:
    login: Login


@dataclasses.dataclass
class Connection:
    """As a driver's state of a connection that has ended."""

    host: str

    def fileno(self) -> int:
        return -1


@dataclasses.dataclass
class Ticket:
    """The program's own data, with names that only resemble those of secrets."""

    needs_password: bool = True
    password: str | None = None
    token: str = "+"
    key: str = "k"
    monkey: str = "m"
    secretary: str = "Ann"


Option = namedtuple("Option", "keyword label val")
Header = namedtuple("Header", "name value")  # without types, as in older libraries


class RemoteError(Exception):
    def __init__(self, *args: Any, **state: Any) -> None:
        super().__init__(*args)
        vars(self).update(state)


def stored(error: BaseException) -> tuple[str, Any]:
    """Return the text of an error, and the error that is raised now, which is the same in a replay."""
    text, now = dump_error(JSON, error)
    again = load_error(JSON, text)
    assert type(again) is type(now)
    assert str(again) == str(now)
    assert dump_error(JSON, now) == (text, now)
    assert dump_error(JSON, again)[0] == text
    return text, now


def encoded(secret: str) -> str:
    return base64.b64encode(secret.encode()).decode()


url = f"postgresql://me:{SECRET}@host/db"
headers = {"Authorization": f"Bearer {SECRET}", "accept": "*/*"}
ERRORS: dict[str, BaseException] = {
    "an object with a password": RemoteError("no", login=Login("me", SECRET)),
    "an object deep in another one": RemoteError("no", client=Client(Login("me", SECRET))),
    "an object in an argument": RemoteError(Client(Login("me", SECRET))),
    "an object in a list": RemoteError("no", logins=[Login("me", SECRET)]),
    "under a private name": RemoteError("no", _login=Login("me", SECRET)),
    "an attribute": RemoteError("no", password=SECRET),
    "an attribute of bytes": RemoteError("no", api_key=SECRET.encode()),
    "a dict": RemoteError("no", options={"user": "me", "password": SECRET}),
    "a dict in a list": RemoteError("no", [{"clientSecret": SECRET}]),
    "a dict with keys of bytes": RemoteError({b"password": SECRET.encode()}),
    "headers": RemoteError("no", headers=headers),
    "headers in pairs": RemoteError("no", headers=list(headers.items())),
    "headers in pairs of bytes": RemoteError("no", headers=[(b"set-cookie", SECRET.encode())]),
    "headers in lists": RemoteError("no", headers={"Cookie": [SECRET, SECRET]}),
    "headers of a named tuple": RemoteError("no", headers=[Header("X-Api-Key", SECRET)]),
    "an option of a named tuple": RemoteError("no", options=[Option(b"password", None, SECRET.encode())]),
    "a URL": RemoteError("no", url=url),
    "a URL in the message": RemoteError(f"cannot reach {url}"),
    "a URL in bytes": RemoteError(url.encode()),
    "a URL of pydantic": RemoteError("no", dsn=pydantic.PostgresDsn(url)),
    "a note": RemoteError("no", __notes__=[f"with {url}"]),
    "an option in the message": RemoteError(f"host=a password={SECRET} dbname=b"),
    "a quoted option": RemoteError(f"host=a password='{SECRET} {SECRET}'"),
    "a query": RemoteError(f"GET /v1?api_key={SECRET}&page=2 failed"),
    "a dict in the message": RemoteError(f"request failed: {headers}"),
    "a file": FileNotFoundError(2, "none", url),
    "an object that is no data": RemoteError("no", httpx.Request("GET", url.replace("postgresql", "http"))),
    "a cause": RemoteError("no", __cause__=RemoteError(url)),
    "a group": ExceptionGroup("no", [ValueError(1), RemoteError("no", login=Login("me", SECRET))]),
    "an error in an attribute": RemoteError("no", orig=RemoteError("no", login=Login("me", SECRET))),
    "an error in a list": RemoteError([RemoteError("no", password=SECRET)]),
    "an open socket": RemoteError("no", {"socket": socket.socket}, url),
}
for _error in ERRORS.values():
    _error.__cause__ = vars(_error).pop("__cause__", None)


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_no_secret_of_an_error_is_stored(error: BaseException) -> None:
    text, now = stored(error)
    assert SECRET not in text
    assert encoded(SECRET) not in text
    assert isinstance(now, type(error))


def test_the_rest_of_such_an_error_is_kept() -> None:
    error = RemoteError(
        f"cannot reach {url}",
        3,
        login=Login("me", SECRET),
        password=SECRET,
        options={"a": [1], "password": SECRET},
        code=4,
    )
    _, now = stored(error)
    assert isinstance(now, RemoteError)
    assert isinstance(now, DBOSRecordedError)
    assert now.args == ("cannot reach postgresql://me:***@host/db", 3)
    assert now.options == {"a": [1], "password": "***"}  # type: ignore[attr-defined]
    assert now.code == 4  # type: ignore[attr-defined]
    for name in ("login", "password"):
        with pytest.raises(AttributeError, match=f"no longer has '{name}'"):
            getattr(now, name)


def test_an_object_that_stands_for_something_open_is_left_out() -> None:
    _, now = stored(RemoteError("no", connection=Connection("host"), host="host"))
    assert now.host == "host"
    with pytest.raises(AttributeError, match="connection"):
        _ = now.connection


KEPT: dict[str, BaseException] = {
    "names that only resemble": RemoteError(Ticket(), ticket=Ticket()),
    "a dict of flags": RemoteError("no", {"password": None, "secret": False, "api_key": ""}),
    "a validation message": RemoteError({"password": ["This field is required."]}),
    "a name alone": TypeError("f() got an unexpected keyword argument 'password'"),
    "a URL without a password": RemoteError("http://me@host:80/a:b@c, http://host/?a=b"),
    "a URL that hides it already": RemoteError("http://me:***@host/"),
    "code": SyntaxError("invalid", ("f.py", 1, 1, "x = secret(1)\n", 1, 2)),
    "a pair": RemoteError(("name", "value"), ["a", "b"]),
    "a key of pydantic": RemoteError(pydantic.HttpUrl("http://host/a")),
}


@pytest.mark.parametrize("error", KEPT.values(), ids=KEPT)
def test_what_is_no_secret_comes_back_as_it_was(error: BaseException) -> None:
    text, now = stored(error)
    assert now is error
    assert load_error(JSON, text).args == error.args


class Account(pydantic.BaseModel):
    name: int
    password: int


def test_the_input_of_a_validation_error_is_searched() -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        Account.model_validate({"name": {"password": SECRET, "a": 1}, "password": SECRET})
    text, now = stored(caught.value)
    assert SECRET not in text
    assert isinstance(now, pydantic.ValidationError)
    assert [line["input"] for line in now.errors()] == [{"password": "***", "a": 1}, "***"]


def test_values_are_not_searched() -> None:
    """The program has chosen them."""
    value = [Login("me", SECRET), {"password": SECRET}, url, RemoteError(url, Login("me", SECRET))]
    again = load(JSON, dump(JSON, value, "the message"), "the message")
    assert again[:3] == value[:3]
    assert again[3].args == value[3].args  # type: ignore[attr-defined]


def test_an_error_that_is_a_value_must_not_hold_something_open() -> None:
    with pytest.raises(DBOSSerializationError, match="'connection' may stand for a connection") as caught:
        dump(JSON, {"found": RemoteError("no", connection=Connection(SECRET))}, "the message")
    assert caught.value.path == "$.found"
    assert SECRET not in str(caught.value)


def test_what_is_said_of_a_value_that_is_refused_names_no_secret() -> None:
    class Local:
        def __repr__(self) -> str:
            return f"Local(password={SECRET!r}, url={url!r})"

    with pytest.raises(DBOSSerializationError) as caught:
        dump(JSON, Local(), "the message")
    assert SECRET not in str(caught.value)


TEXTS = {
    f"ftp://:{SECRET}@host": "ftp://:***@host",
    f"redis://u:{SECRET}@h1,u:{SECRET}@h2/0": "redis://u:***@h2/0",
    f"a PGPASSWORD={SECRET} b": "a PGPASSWORD=*** b",
    f"Login(user='me', password='{SECRET}')": "Login(user='me', password=***)",
    f'{{"api-key": "{SECRET}", "a": 1}}': '{"api-key": "***", "a": 1}',
    f"[(b'authorization', b'{SECRET}')]": "[(b'authorization', b'***')]",
    f"Authorization: Basic {SECRET}": "Authorization: Basic ***",
    f"Bearer tokens: access_token={SECRET}": "Bearer tokens: access_token=***",
    f"aws_secret_access_key = {SECRET}\n": "aws_secret_access_key = ***\n",
}


@pytest.mark.parametrize(("text", "without"), TEXTS.items())
def test_texts_are_searched(text: str, without: str) -> None:
    assert hide_in_text(text) == without


@given(
    st.lists(
        st.sampled_from(
            ["://", "a", ":", "@", "password", "=", "'", '"', " ", "***", "authorization", ": ", "bearer", "/", ","]
        )
    )
)
def test_what_was_searched_has_nothing_more_to_find(words: list[str]) -> None:
    without = hide_in_text("".join(words))
    assert hide_in_text(without) == without


@pytest.mark.parametrize(
    "word", ["://", "://a:", "password=", "'password': '", "password", "a", "x-", "authorization: bearer "]
)
def test_long_texts_take_no_long_time(word: str) -> None:
    """A pattern that reads the rest of the text from each place would not come to an end here."""
    text = word * (200_000 // len(word))
    assert len(hide_in_text(text)) <= len(text) + 3
