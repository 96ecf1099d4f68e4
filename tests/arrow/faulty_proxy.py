"""A proxy between a client and an S3 server on the loopback address, which delays answers and spoils some.

    python3 faulty_proxy.py SERVER_PORT FOLDER

prints its own port, and then serves until it is killed. FOLDER/faults has a line for each fault, "FAULT TIMES NAME": the
next TIMES requests whose path contains NAME get it. FOLDER/requests gets a line for each request. FAULT is one of

    503       the server is busy
    403       the key is refused
    hang      no answer
    reset     the connection is closed without an answer
    cut       the connection is closed in the middle of the body
    short     the body is half of what was asked for, and the header says so
    short1    the body is one byte shorter, and the header says so; short15 and short16: 15 and 16 bytes
    wait      the answer comes after 0.3 seconds
"""
import asyncio
import os
import sys

BUSY = (b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n")
REFUSED = (b"<?xml version=\"1.0\"?><Error><Code>InvalidAccessKeyId</Code>"
           b"<Message>The key AKIDEXAMPLE does not exist</Message></Error>")


class Faults:
    """The faults of the file that are left. It is read again when it is replaced."""

    def __init__(self, folder):
        self.file = os.path.join(folder, "faults")
        self.log = open(os.path.join(folder, "requests"), "a", buffering=1)
        self.identity = None
        self.left = []

    def of(self, request_line):
        self.log.write(request_line + "\n")
        try:
            state = os.stat(self.file)
        except FileNotFoundError:
            return None
        if (state.st_ino, state.st_mtime_ns) != self.identity:
            self.identity = (state.st_ino, state.st_mtime_ns)
            with open(self.file) as lines:
                self.left = [[fault, int(times), name] for fault, times, name in (line.split() for line in lines)]
        for entry in self.left:
            if entry[1] > 0 and entry[2] in request_line:
                entry[1] -= 1
                return entry[0]
        return None


def length_of(head):
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return None


def with_length(head, length):
    lines = [line for line in head.rstrip(b"\r\n").split(b"\r\n") if not line.lower().startswith(b"content-length:")]
    return b"\r\n".join(lines + [b"Content-Length: %d" % length]) + b"\r\n\r\n"


async def pass_chunks(reader, writer):
    while True:
        line = await reader.readline()
        size = int(line.split(b";")[0], 16)
        writer.write(line + await reader.readexactly(size + 2))
        if size == 0:
            return


async def answer(method, reader, writer, fault):
    head = await reader.readuntil(b"\r\n\r\n")
    length = length_of(head)
    if method == "HEAD" or b" 204 " in head[:20] or b" 304 " in head[:20]:
        writer.write(head)
        return True
    if length is None:
        writer.write(head)
        await pass_chunks(reader, writer)
        return True
    body = await reader.readexactly(length)
    if fault is not None and fault.startswith("short"):
        missing = int(fault[5:] or length // 2)
        body = body[: length - missing]
        head = with_length(head, len(body))
    writer.write(head)
    if fault == "cut":
        writer.write(body[: length // 2])
        await writer.drain()
        return False
    writer.write(body)
    return True


async def serve(faults, port, reader, writer):
    upstream = None
    try:
        upstream = await asyncio.open_connection("127.0.0.1", port)
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(length_of(head) or 0)
            line = head.split(b"\r\n")[0].decode()
            method = line.split(" ")[0]
            fault = faults.of(line)
            if fault == "reset":
                return
            if fault == "hang":
                await asyncio.sleep(3600)
            if fault == "wait":
                await asyncio.sleep(0.3)
            if fault == "503":
                writer.write(BUSY)
            elif fault == "403":
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n"
                             % len(REFUSED) + (b"" if method == "HEAD" else REFUSED))
            else:
                upstream[1].write(head + body)
                if not await answer(method, upstream[0], writer, fault):
                    return
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, ValueError):
        pass
    finally:
        writer.close()
        if upstream is not None:
            upstream[1].close()


async def main():
    faults = Faults(sys.argv[2])
    server = await asyncio.start_server(lambda r, w: serve(faults, int(sys.argv[1]), r, w), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
