"""http_slow.py HOST:PORT KEYFILE CLIENTS PATH: so many clients that are slow with the head, with a body, or in reading,
beside one that is not. That one is always answered; all others are cut off within 60 seconds."""
import socket, sys, time, urllib.request

host, port = sys.argv[1].rsplit(":", 1)
key, clients, path = open(sys.argv[2]).read().strip(), int(sys.argv[3]), sys.argv[4]
head = f"Host: {host}:{port}\r\nAuthorization: Bearer {key}\r\n"
KINDS = {"head": "GET / HTTP/1.1\r\n" + head,
         "body": f"PUT /files/slow%d HTTP/1.1\r\n{head}Content-Length: 1000000\r\n\r\n",
         "read": f"GET /files{path} HTTP/1.1\r\n{head}\r\n"}
socks, closed, worst, failed = {}, 0, 0, 0
for i in range(clients):
    kind = list(KINDS)[i % 3]
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect((host, int(port)))
    text = KINDS[kind].replace("%d", str(i)).encode()
    s.sendall(text if kind != "head" else text[:-2])
    s.setblocking(False)
    socks[s] = kind
begun = time.monotonic()
while socks and time.monotonic() - begun < 60:
    for s, kind in list(socks.items()):
        try:
            if kind == "read":
                gone = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0 or s.recv(16) == b""
            else:
                s.send(b"x")
                gone = s.recv(65536) == b""
        except BlockingIOError:
            gone = False
        except OSError:
            gone = True
        if gone:
            closed += 1
            s.close()
            del socks[s]
    at = time.monotonic()
    request = urllib.request.Request(f"http://{host}:{port}/api/status", headers={"Authorization": "Bearer " + key})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            failed += answer.status != 200
    except OSError as error:
        failed += 1
        print(error)
    worst = max(worst, time.monotonic() - at)
    time.sleep(0.5)
if socks:
    print("not cut off:", sorted(set(socks.values())))
print(f"{closed} of {clients} slow clients were cut off after {time.monotonic() - begun:.0f} s; the other waited "
      f"{worst * 1000:.0f} ms at most, and was not answered {failed} times")
sys.exit(closed != clients or failed > 0)
