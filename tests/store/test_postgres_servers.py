"""In which order the servers of a URL are tried."""

import pytest
from psycopg.conninfo import conninfo_to_dict

from tidings.store.postgres.servers import Servers


@pytest.mark.parametrize(
    ("url", "current", "expected"),
    [
        ("host=a,b,c port=1,2,3", ("b", 2), {"host": "b,a,c", "port": "2,1,3"}),
        ("host=a,b,c port=1", ("c", 1), {"host": "c,a,b", "port": "1,1,1"}),
        ("host=a,b", ("b", 5432), {"host": "b,a"}),
        ("host=a,a port=1,2", ("a", 2), {"host": "a,a", "port": "2,1"}),
        ("hostaddr=10.0.0.1,10.0.0.2 port=1,2", ("10.0.0.2", 2), {"hostaddr": "10.0.0.2,10.0.0.1", "port": "2,1"}),
        ("host=a,b hostaddr=10.0.0.1,10.0.0.2", ("b", 5432), {"host": "b,a", "hostaddr": "10.0.0.2,10.0.0.1"}),
        ("host=a,b load_balance_hosts=random", ("b", 5432), {"host": "b,a", "load_balance_hosts": "disable"}),
        ("host=a,b", ("gone", 1), {"host": "a,b"}),
        ("host=a,b", None, {}),
        ("host=a port=1", ("a", 1), {}),
        ("dbname=d", ("", 5432), {}),
    ],
)
def test_the_server_of_the_last_connection_comes_first(
    url: str, current: tuple[str, int] | None, expected: dict[str, str]
) -> None:
    servers = Servers(conninfo_to_dict(url))
    servers.current = current
    assert servers.in_order() == expected
