"""Clients that a service has to bear, until they are stopped.

    python rude.py KIND PORT

KIND is slow (500 connections, a byte of a header every five seconds each), half (96 bodies of 100
kB, again and again, of which two thirds come and for five seconds nothing), cut (half a request,
and gone), garbage (bytes that are no HTTP), large (bodies of 100 MB, with their length and in
chunks), words (8 clients, each with one text of 1.9 MB, of words of one letter) or flood (lists of
long texts from 64 clients, more than the queue takes). Prints what it was answered, by status;
where nothing listens any more it ends with 1.
"""

import collections
import http.client
import json
import os
import random
import signal
import socket
import sys
import threading
import time

kind, port = sys.argv[1], int(sys.argv[2])
answers, lock = collections.Counter(), threading.Lock()
random.seed(3)


def count(answer):
    with lock:
        answers[answer] += 1


def connect():
    stream = socket.create_connection(("127.0.0.1", port), timeout=30)
    stream.settimeout(30)
    return stream


def status(stream):
    """That of an answer, or how the connection ended."""
    try:
        head = stream.recv(64).split(b" ")
        return head[1].decode() if len(head) > 1 else "closed"
    except OSError as error:
        return type(error).__name__


def slow():
    streams = [connect() for _ in range(500)]
    for stream in streams:
        stream.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nX-Slow: ")
    while True:
        for at, stream in enumerate(streams):
            try:
                stream.sendall(b"a")
            except OSError:
                count("closed")
                streams[at] = connect()
            time.sleep(5 / len(streams))


def half():
    # More than 64 KiB, which is what everybody may have in memory.
    head = "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
    while True:
        streams = [connect() for _ in range(96)]
        for stream in streams:
            try:
                stream.sendall(head.encode() + b" " * 66666)
            except OSError:
                pass
        time.sleep(5)
        for stream in streams:
            stream.settimeout(0.01)
            count(status(stream))
            stream.close()


def cut():
    body = json.dumps({"inputs": "a film that nobody waits for " * 20})
    whole = f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    while True:
        with connect() as stream:
            # Sometimes all of it, so that it is at work when its client is gone.
            try:
                stream.sendall(whole[: random.randint(1, len(whole))].encode())
                count("cut")
            except OSError as error:
                count(type(error).__name__)
        time.sleep(0.01)


def garbage():
    while True:
        with connect() as stream:
            try:
                stream.sendall(os.urandom(random.randint(1, 2000)))
                stream.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            count(status(stream))
        time.sleep(0.01)


def large():
    piece = b"a" * (1 << 20)
    while True:
        for head in ["Content-Length: 104857600", "Transfer-Encoding: chunked"]:
            with connect() as stream:
                try:
                    stream.sendall(f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{head}\r\n\r\n".encode())
                    for _ in range(100):
                        if "chunked" in head:
                            stream.sendall(b"100000\r\n" + piece + b"\r\n")
                        else:
                            stream.sendall(piece)
                except OSError:
                    pass
                count(status(stream))


def again(body):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while True:
        try:
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            count(answer.status)
        except (OSError, http.client.HTTPException) as error:
            count(type(error).__name__)
            connection.close()
        # A client that waits as long as it is told to would be none of these.
        time.sleep(0.01)


def words():
    again(json.dumps({"inputs": " ".join("a" * 950_000)}))


def flood():
    texts = [[" ".join(random.choices("good bad film boat lake Zürich".split(), k=40))] for _ in range(32)]
    again(json.dumps({"inputs": texts}))


KINDS = {
    "slow": (slow, 1),
    "half": (half, 1),
    "cut": (cut, 2),
    "garbage": (garbage, 2),
    "large": (large, 4),
    "words": (words, 8),
    "flood": (flood, 64),
}
work, threads = KINDS[kind]


def at_work():
    try:
        work()
    except OSError as error:
        print(f"{kind}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def end():
    with lock:
        print(json.dumps({str(of): n for of, n in answers.items()}), flush=True)
    os._exit(0)


# Waited for, not handled: a handler could wait for a lock that its own thread holds. Threads take
# over what is blocked.
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
for _ in range(threads):
    threading.Thread(target=at_work, daemon=True).start()
signal.sigwait([signal.SIGTERM])
end()
