"""Another process, which reads a stream of each of many workflows, live and to the end: `follower URL COUNT`."""

import asyncio
import sys

from tidings import DBOSClient


def say(text: str) -> None:
    """Tell the test."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def main(url: str, count: int) -> None:
    """Say "live" when each stream has been read up to now, and then which were read wrong at the end."""
    live = 0

    async def read(number: int) -> list[int]:
        nonlocal live
        values: list[int] = []
        async for value in client.read_stream_async(f"w{number}", "log"):
            values.append(value)
            if len(values) == 1:
                live += 1
                if live == count:
                    say("live")
        return values

    async with DBOSClient(system_database_url=url) as client:
        read_values = await asyncio.gather(*map(read, range(count)))
    wrong = [number for number, values in enumerate(read_values) if values != [number, -number]]
    say(f"wrong: {wrong}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
