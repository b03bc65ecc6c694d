#!/usr/bin/env python3
"""The wire of dfs, written from its description and not from its code; the tests speak and attack with it.

  wire.py digest|help|status ADDRESS        one request, its answer
  wire.py mkdir ADDRESS PATH                one request of a master, its answer in one line
  wire.py ask ADDRESS LINE                  any request without a body, its answer's line; REQUEST becomes a request id
  wire.py verify ADDRESS SHA256...          asks a node to read chunks again; a line for each
  wire.py reuse ADDRESS SECONDS             many clients who ask for no protection store the same few chunks, name them,
                                            read them and remove their names, while the chunks are dropped again and
                                            again: what was acknowledged can be read, and is right
  wire.py ambush ADDRESS N SHA256 FILE      connects to a master, says ready, waits until FILE is there, asks it about
                                            what another master has changed since then, and judges the answers
  wire.py late FOLDER                       plays a master without a key to a new node in FOLDER: what it sent on a
                                            connection that it gave up arrives late
  wire.py late_node ADDRESS                 plays a node to a master: what it says of a session that is over
  wire.py ATTACK ADDRESS [SEED]             attacks a server; exit code 0 if it defended itself
  wire.py attacks                           the names of the attacks

DFS_KEY_FILE names the cluster's key, DFS the binary under test. An attack fails by an exception."""
import hashlib, hmac, os, random, resource, socket, struct, subprocess, sys, threading, time

SLOW = float(os.environ.get("SLOW", "1"))
KEY = bytes.fromhex(open(os.environ["DFS_KEY_FILE"]).read()) if os.environ.get("DFS_KEY_FILE") else None
ZERO = "0" * 16
HASH = hashlib.sha256(b"").hexdigest()
HUGE = ["9223372036854775807", "9223372036854775808", "18446744073709551615", "18446744073709551616",
        "340282366920938463463374607431768211456", "9" * 400, "-1", "+1", "0x10", "1e3", "1.0", "67108865"]


class Refused(Exception):
    """The server answered ERR."""


def mac(key, *parts):
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()


def connect(address):
    host, port = address.rsplit(":", 1)
    s = socket.create_connection((host, int(port)), timeout=30 * SLOW)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


class Wire:
    """A connection; after hello() with a key every line carries its MAC."""

    def __init__(self, address, role="client", identity=ZERO, hello=True, key=KEY):
        self.s, self.key, self.role, self.identity = connect(address), key, role, identity
        self.left, self.sent, self.received, self.keys = b"", 0, 0, None
        if hello:
            self.hello()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.s.close()

    def raw(self, data):
        self.s.sendall(data)

    def raw_line(self):
        """One line, or None at the end of the stream."""
        while b"\n" not in self.left:
            try:
                more = self.s.recv(65536)
            except ConnectionError:
                more = b""
            if not more:
                return None
            self.left += more
        line, self.left = self.left.split(b"\n", 1)
        return line

    def body(self, length):
        while len(self.left) < length:
            more = self.s.recv(1 << 20)
            assert more, "the connection ended in a body"
            self.left += more
        data, self.left = self.left[:length], self.left[length:]
        return data

    def challenge(self, nonce=None):
        """Sends HELLO; returns the proof to send and derives the keys."""
        nonce = nonce or (os.urandom(16).hex() if self.key else "-")
        self.raw(f"HELLO dfs/1 {self.role} {self.identity} {nonce}\n".encode())
        line = self.raw_line()
        if line is None or line.startswith(b"ERR "):
            raise Refused(line)
        _, version, role, identity, server_nonce, proof = line.decode().split(" ")
        assert version == "dfs/1", line
        if not self.key:
            return None
        said = f"dfs/1 {self.role} {self.identity} {nonce} {role} {identity} {server_nonce}".encode()
        assert hmac.compare_digest(proof, mac(self.key, b"dfs/1 server\0", said).hex()), "the server's proof is wrong"
        self.keys = [mac(self.key, b"dfs/1 from client\0", said), mac(self.key, b"dfs/1 from server\0", said)]
        return mac(self.key, b"dfs/1 client\0", said).hex()

    def hello(self):
        proof = self.challenge()
        if proof:
            self.raw(f"AUTH {proof}\n".encode())
            assert self.line() == b"OK"

    def signed(self, line, number=None):
        if not self.keys:
            return line + b"\n"
        number = self.sent if number is None else number
        self.sent = number + 1
        return line + b" " + mac(self.keys[0], struct.pack(">Q", number), line)[:16].hex().encode() + b"\n"

    def line(self):
        line = self.raw_line()
        if line is None or not self.keys:
            return line
        text, tag = line[:-33], line[-32:]
        if line[-33:-32] == b" " and hmac.compare_digest(
                tag, mac(self.keys[1], struct.pack(">Q", self.received), text)[:16].hex().encode()):
            self.received += 1
            return text
        assert line.startswith(b"ERR "), f"a line with a wrong MAC: {line}"
        return line

    def send(self, line, body=None, digest=None):
        line = line if isinstance(line, bytes) else line.encode()
        if body is not None:
            line += f" {len(body)} {digest or hashlib.sha256(body).hexdigest()}".encode()
        self.raw(self.signed(line) + (body or b""))

    def call(self, line, body=None, digest=None, has_body=False):
        """The words of the answer, and its body if it has one."""
        self.send(line, body, digest)
        answer = self.line()
        if answer is None or answer.startswith(b"ERR "):
            raise Refused(answer)
        words = answer.decode().split(" ")
        assert words[0] == "OK", answer
        if not has_body:
            return words
        data = self.body(int(words[-2]))
        assert hashlib.sha256(data).hexdigest() == words[-1], "a body that is not what its line says"
        return words, data

    def closed(self):
        """True when the server has closed the connection; reads what it still says."""
        while True:
            try:
                if not self.s.recv(65536):
                    return True
            except socket.timeout:
                return False
            except ConnectionError:
                return True


def alive(address):
    with Wire(address) as w:
        w.call("DIGEST")


def role_of(address):
    with Wire(address, hello=False, key=None) as w:
        w.raw(f"HELLO dfs/1 client {ZERO} {'0' * 32}\n".encode())
        return w.raw_line().decode().split(" ")[2]


def refused(w, line, body=None, digest=None, words=("badrequest",)):
    """The request is answered with ERR and one of these words; the connection may end after it."""
    try:
        answer = w.call(line, body, digest)
    except Refused as why:
        text = why.args[0]
        assert text is not None, f"closed without an error line: {line[:200]}"
        assert text.decode("latin1").split(" ")[1] in words, f"{line[:200]}: {text}"
        assert len(text.split(b" ", 2)[2]) > 3, f"an error without a text: {text}"
        return
    raise AssertionError(f"accepted: {line[:200]} -> {answer}")


def random_id():
    return os.urandom(16).hex()


# ---- Attacks ----

class Relay(threading.Thread):
    """Stands between a client and a server, keeps what the client says, and may change lines on their way."""

    def __init__(self, address, change_up=None, change_down=None):
        super().__init__(daemon=True)
        self.to, self.change = address, (change_up, change_down)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.said = []
        self.start()

    def run(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far, heard = connect(self.to), []
            self.said.append(heard)
            threading.Thread(target=self.pump, args=(near, far, self.change[0], heard), daemon=True).start()
            threading.Thread(target=self.pump, args=(far, near, self.change[1], []), daemon=True).start()

    @staticmethod
    def pump(source, to, change, heard):
        number, left = 0, b""
        try:
            while data := source.recv(65536):
                heard.append(data)
                left += data
                while b"\n" in left:
                    line, left = left.split(b"\n", 1)
                    to.sendall((change(number, line) if change else line) + b"\n")
                    number += 1
            to.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def dfs(address, *words):
    env = {**os.environ, "DFS_MASTER": address}
    return subprocess.run([os.environ["DFS"], *words], env=env, capture_output=True, timeout=60 * SLOW)


def attack_replay(address):
    """What a client said once, said again: the handshake fails, and nothing is done twice."""
    relay = Relay(address)
    done = dfs(relay.address, "--mkdir", "/replayed")
    assert done.returncode == 0, done.stderr
    assert dfs(address, "--rm", "/replayed").returncode == 0
    relay.listener.close()
    for heard in relay.said:
        with Wire(address, hello=False, key=None) as w:
            w.raw(b"".join(heard))
            assert w.raw_line().startswith(b"OK dfs/1 ")
            line = w.raw_line()
            assert line is not None and line.startswith(b"ERR denied "), f"a replayed handshake: {line}"
            assert w.raw_line() is None, "still open after a replayed handshake"
    assert dfs(address, "--stat", "/replayed").returncode == 2


def attack_changed(address):
    """One byte changed on the way, in either direction: refused by who receives it, and nothing is done."""
    def up(number, line):
        return line.replace(b"/changed", b"/CHANGED") if number > 1 else line

    def down(number, line):
        return line.replace(b"OK ", b"OK 1") if number > 1 else line
    done = dfs(Relay(address, up).address, "--mkdir", "/changed")
    assert done.returncode in (7, 12), (done.returncode, done.stderr)
    done = dfs(Relay(address, None, down).address, "--ls", "/")
    assert done.returncode not in (0, 2), (done.returncode, done.stdout, done.stderr)
    for path in "/changed", "/CHANGED":
        assert dfs(address, "--stat", path).returncode == 2


def attack_hello(address):
    """Every wrong way to open."""
    cases = {
        "a proof of zeros": b"AUTH " + b"0" * 64,
        "an empty proof": b"AUTH",
        "a short proof": b"AUTH 00",
        "a proof that is none": b"AUTH " + b"g" * 64,
        "a request": b"STATUS",
        "HELLO again": b"HELLO dfs/1 client 0000000000000000 " + b"1" * 32,
    }
    for what, line in cases.items():
        with Wire(address, hello=False) as w:
            w.challenge()
            w.raw(line + b"\n")
            answer = w.raw_line()
            assert answer is not None and answer.startswith(b"ERR "), f"{what}: {answer}"
            assert w.raw_line() is None, f"still open after {what}"
    with Wire(address, hello=False, key=os.urandom(32)) as w:
        try:
            w.challenge()
            raise RuntimeError
        except AssertionError:
            pass  # the server's proof is for another key
    with Wire(address, hello=False) as w:  # the server's own proof, sent back
        nonce = os.urandom(16).hex()
        w.raw(f"HELLO dfs/1 client {ZERO} {nonce}\n".encode())
        w.raw(b"AUTH " + w.raw_line().split(b" ")[5] + b"\n")
        assert w.raw_line().startswith(b"ERR denied ")
    for line in (b"STATUS", b"HELP", b"DIGEST", b"GET " + HASH.encode(), b"AUTH " + b"0" * 64, b"", b" ", b"\0",
                 b"HELLO",
                 b"HELLO dfs/2 client 0000000000000000 " + b"0" * 32, b"HELLO dfs/1 client 0000000000000000 -",
                 b"HELLO dfs/1 king 0000000000000000 " + b"0" * 32, b"HELLO dfs/1 client 0 " + b"0" * 32,
                 b"HELLO dfs/1 client 0000000000000000 " + b"0" * 31, b"GET / HTTP/0.9"):
        with Wire(address, hello=False) as w:
            w.raw(line + b"\n")
            answer = w.raw_line()
            wanted = b"HTTP/1.1 400 " if line.startswith(b"GET /") else b"ERR " # the other half of the port
            assert answer is None or answer.startswith(wanted), f"{line}: {answer}"
            while wanted != b"ERR " and answer is not None:
                answer = w.raw_line()
            assert answer is None or w.raw_line() is None, f"still open after {line}"


def attack_mac(address):
    """Lines with a wrong MAC, none, an old one, one of another line, one of another direction."""
    def cases(w):
        good = w.signed(b"DIGEST", 1)
        yield "a wrong MAC", good[:-2] + (b"0" if good[-2:-1] != b"0" else b"1") + b"\n"
        yield "no MAC", b"DIGEST\n"
        yield "half a MAC", good[:-17] + b"\n"
        yield "an old MAC", w.signed(b"DIGEST", 0)
        yield "a MAC too early", w.signed(b"DIGEST", 2)
        yield "another line's MAC", b"STATUS" + good[6:]
        theirs = mac(w.keys[1], struct.pack(">Q", 1), b"DIGEST")[:16].hex()
        yield "the server's MAC", f"DIGEST {theirs}\n".encode()
        yield "capital letters", good[:7] + good[7:].upper() if good[7:].upper() != good[7:] else b"DIGEST\n"
    for number in range(8):
        with Wire(address) as w:
            w.call("DIGEST")
            what, data = list(cases(w))[number]
            w.raw(data + w.signed(b"DIGEST", 2))
            answer = w.raw_line()
            assert answer is None or answer.startswith(b"ERR denied "), f"{what}: {answer}"
            assert answer is None or w.raw_line() is None, f"still open after {what}"


def attack_long_line(address):
    """A line of 1 MiB: closed for a stranger, an error line for whom the server knows."""
    for data in b"A" * (1 << 20), b"STAT /" + b"a" * (1 << 20), b"A " * (1 << 19):
        with Wire(address, hello=False) as w:
            try:
                w.raw(data + b"\n")
            except ConnectionError:
                pass
            assert w.closed(), "still open"
        with Wire(address) as w:
            try:
                w.raw(data + b"\n")
            except ConnectionError:
                pass
            answer = w.raw_line()
            assert answer is not None and answer.startswith(b"ERR "), f"no error line: {answer}"
            assert w.closed(), "still open"
    with Wire(address) as w:  # without its end
        w.raw(b"A" * 16384)
        answer = w.raw_line()
        assert answer is not None and answer.startswith(b"ERR "), f"no error line: {answer}"


def verbs(address):
    """(role, line) for every verb that has a body, with arguments that would do."""
    if role_of(address) == "master":
        return [("client", f"COMMIT {random_id()} /huge 1 1 - {HASH} 0"), ("node", "REPORT 1 1")]
    return [("client", "PUT -"), ("master", "FETCH 127.0.0.1:1"), ("master", "RECORDS 99"), ("master", "INSTALL 99")]


def attack_lengths(address):
    """Declared lengths that are too large, negative, or no numbers."""
    for role, line in verbs(address):
        for length in HUGE:
            with Wire(address, role=role) as w:
                refused(w, f"{line} {length} {HASH}")
        for digest in "0", "g" * 64, HASH[:-1], HASH + "0":
            with Wire(address, role=role) as w:
                refused(w, f"{line} 0 {digest}")


def attack_words(address):
    """Unknown verbs, wrong numbers of words, bytes that no word has, escapes that are none."""
    lines = [b"", b" ", b"  ", b"\0", b"DIGEST ", b" DIGEST", b"DIGEST  ", b"DIGEST\0", b"DIG\0EST", b"DIGEST\r",
             b"\tDIGEST", b"digest", b"DIGEST x", b"NONE", b"NONE x y", b"\xff\xfe", b"DIGEST\x7f", b"A " * 100 + b"A",
             b"HELLO", b"AUTH", b"AUTH " + b"0" * 64]
    if role_of(address) == "master":
        lines += [b"STAT", b"STAT /a /b", b"STAT a%", b"STAT /%0", b"STAT /%zz", b"STAT /%00", b"STAT /..",
                  b"STAT /a%2F..", b"LIST /", b"MKDIR x /y", b"MKDIR " + b"0" * 31 + b" /y",
                  b"MKDIR " + b"0" * 33 + b" /y", b"RM " + b"g" * 32 + b" /y", b"STAT /" + b"a" * 256,
                  b"STAT /" + b"%61" * 256, b"STAT /" + b"a/" * 2048 + b"a"]
    else:
        lines += [b"GET", b"GET 0", b"GET " + b"g" * 64, b"GET " + b"0" * 65, b"VERIFY ../../etc/passwd", b"VERIFY"]
    for line in lines:
        with Wire(address) as w:
            refused(w, line, words=("badrequest", "denied"))
    with Wire(address) as w:  # on one connection, one after another
        for line in lines:
            try:
                w.call(line)
                raise AssertionError(f"accepted: {line}")
            except (Refused, OSError) as why:
                if not isinstance(why, Refused) or why.args[0] is None:
                    w = Wire(address)
    others = {"master": [("client", b"REPORT 1 1 0 " + HASH.encode()), ("client", b"JOIN a b c d e f 0 0"),
                         ("master", b"PING 1 ok 0 0 0 0 0 0 0 0 - 0 0 0 0 0 -")],
              "node": [("client", b"PROMISE 999999"), ("node", b"PROMISE 999999"), ("client", b"SNAPSHOT 0"),
                       ("client", b"RECORDS 9 0 " + HASH.encode()), ("node", b"INSTALL 9 0 " + HASH.encode())]}
    for role, line in others[role_of(address)]:
        with Wire(address, role=role) as w:
            refused(w, line, words=("denied",))


def attack_bodies(address):
    """Bodies that are not what their line says, or that end early; a body is never taken for requests."""
    trap = b"MKDIR " + random_id().encode() + b" /smuggled\n" + b"PROMISE 99999999\n"
    for role, line in verbs(address):
        with Wire(address, role=role) as w:
            refused(w, line, b"some bytes", "0" * 64, words=("damaged",))
        with Wire(address, role=role) as w:
            w.send(line, b"x" * 100000)
        with Wire(address, role=role) as w:
            w.raw(w.signed(f"{line} 100000 {HASH}".encode()) + b"x" * 5000)  # and no more
        for extra in f"{line} extra", line.rsplit(" ", 1)[0], "NONE", f"{line}  ", f"{line} \x01":
            with Wire(address, role=role) as w:
                try:
                    w.send(extra, trap)
                    w.s.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                answers = []
                while (answer := w.line()) is not None:
                    answers.append(answer)
                assert not any(a.startswith(b"OK") for a in answers), f"{extra}: {answers}"
    if role_of(address) == "master":
        with Wire(address) as w:
            for body in "", "x\n", "0 1\n", f"{HASH} 1", f"{HASH} 2\n", f"{HASH} 1 1\n", f"{HASH} 0\n", \
                    f"{HASH} -1\n", f"{HASH} 4194305\n", f"{HASH} 18446744073709551616\n", f"{HASH} 1\n\n", \
                    f"{HASH} 1\n\0\n":
                refused(w, f"COMMIT {random_id()} /x 1 1 - {HASH} 0", body.encode())
    else:
        with Wire(address) as w:
            refused(w, "PUT -", b"")
            digest = hashlib.sha256(b"never stored").hexdigest()
            refused(w, "PUT -", b"never storeD", digest, words=("damaged",))
            assert w.call(f"VERIFY {digest}") == ["OK", "absent"]
            refused(w, f"GET {digest}", words=("notfound",))
            refused(w, "PUT " + ",".join(["127.0.0.1:1"] * 9), b"x")


def attack_claims(address):
    """A commit of chunks that no node has, or has otherwise than the client says."""
    if role_of(address) != "master":
        return
    data = os.urandom(1000)
    digest = hashlib.sha256(data).hexdigest()
    with Wire(address) as w:
        row = w.call("TARGETS -", has_body=True)[1].decode().split("\n")[0]
        with Wire(row.split(" ")[1]) as n:
            n.call("PUT -", data)
        refused(w, f"COMMIT {random_id()} /x 1000 1 - {HASH} 0", f"{digest} 1000\n".encode(), words=("damaged",))
        refused(w, f"COMMIT {random_id()} /x 999 1 - {digest} 0", f"{digest} 999\n".encode(), words=("damaged",))
        none = os.urandom(32).hex()
        refused(w, f"COMMIT {random_id()} /x 10 1 - {none} 0", f"{none} 10\n".encode(),
                words=("unavailable", "damaged"))


def attack_halves(address):
    """Connections that end in the middle of a line, or say nothing."""
    for data in b"", b"H", b"HELLO dfs/1 client", b"HELLO dfs/1 client 0000000000000000 " + b"0" * 32, b"\n" * 3:
        for _ in range(20):
            with Wire(address, hello=False) as w:
                w.raw(data)
    for _ in range(20):
        with Wire(address) as w:
            w.raw(b"DIGES")


def attack_slow(address):
    """Strangers that send a byte now and then are gone before long, and nobody waits for them."""
    slow = [connect(address) for _ in range(60)]
    begun = time.monotonic()
    for s in slow:
        s.settimeout(0.001)
    while slow:
        assert time.monotonic() - begun < 12 * SLOW, f"{len(slow)} slow strangers are still connected"
        for s in list(slow):
            try:
                s.send(b"H")
                if s.recv(100) == b"":
                    slow.remove(s)
            except socket.timeout:
                pass
            except ConnectionError:
                slow.remove(s)
        alive(address)
        time.sleep(0.5)


def attack_stalled(address):
    """More uploads than a node has buffers stop in the middle: others wait for a while, not for ever."""
    if role_of(address) != "node":
        return
    data = os.urandom(3000000)
    digest = hashlib.sha256(data).hexdigest()
    stalled = []
    for _ in range(60):
        w = Wire(address)
        w.raw(w.signed(f"PUT - {len(data)} {digest}".encode()) + data[:1000])
        stalled.append(w)
    end = time.monotonic() + 45 * SLOW
    while True:
        try:
            with Wire(address) as w:
                w.s.settimeout(60 * SLOW)
                w.call("PUT -", data)
                return
        except Refused as why:
            assert time.monotonic() < end, f"no upload is possible any more: {why}"


def attack_unread(address):
    """A peer that asks and never reads costs no memory; half a request delays no answer."""
    with Wire(address) as w:
        w.send("DIGEST")
        w.raw(b"DIGES")
        assert w.line().startswith(b"OK "), "an answer waits for the next request's end"
    with Wire(address, role="client") as w:
        w.s.settimeout(2 * SLOW)
        try:
            for _ in range(60):
                w.raw(b"".join(w.signed(b"NONE") for _ in range(5000)))
        except OSError:
            pass


def attack_crowd(address):
    """Thousands of connections: those over the limit are refused, the others served, and all is free again after."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    with Wire(address) as first:
        crowd, said, closed = [], 0, 0
        for _ in range(3000):
            try:
                crowd.append(connect(address))
            except OSError:
                break
        for s in crowd:
            s.settimeout(0.0005)
            try:
                said += s.recv(200).startswith(b"ERR noserver ")
                closed += 1
            except socket.timeout:
                pass
            except OSError:
                closed += 1
        assert said > 0 and closed > len(crowd) - 1200, f"of {len(crowd)}: {closed} closed, {said} of them with a word"
        first.call("DIGEST")
        for s in crowd:
            s.close()
    end = time.monotonic() + 30 * SLOW
    while True:
        try:
            return alive(address)
        except (Refused, OSError, ValueError):
            assert time.monotonic() < end, "no connection is possible any more"
            time.sleep(0.1)


def attack_noise(address, seed):
    """Random changes of requests that are right, with right MACs, and plain noise."""
    rng = random.Random(seed)
    good = hashlib.sha256(b"good").hexdigest()
    lines = ["DIGEST", "STATUS", "NODES", "TARGETS -", "STAT /noise", "LIST / - -", "LIST / %41 -", "HELP", "STATE",
             f"GET {good}", f"VERIFY {good}", f"PUT - 4 {good}\ngood", "PING 1 ok 1 2 3 4 5 6 7 8 - 1 1 1 1 1 -",
             f"REPORT 1 1 0 {HASH}",
             "JOIN 0123456789abcdef - n 127.0.0.1:1 % 0.1.0 0 0", f"COMMIT {'0' * 32} /noise 0 0 - {HASH} 0 0 {HASH}",
             f"COMMIT {'0' * 32} /noise 4 0 - {good} 0 67 {HASH}\n{good} 4\n", f"MKDIR {'1' * 32} /noise",
             "HELLO dfs/1 client 0 0"]
    values = b" ", b"-1", b"18446744073709551615", b"99999999999999999999", b"%", b"/", b"\0"
    end = time.monotonic() + float(os.environ.get("NOISE_SECONDS", "5"))
    count = 0
    while time.monotonic() < end:
        with Wire(address) as w:
            w.s.settimeout(0.05)
            for _ in range(rng.randrange(1, 20)):
                data = bytearray(rng.choice(lines).encode())
                for _ in range(rng.randrange(1, 6)):
                    at, kind = rng.randrange(len(data) + 1), rng.randrange(4)
                    if kind == 0:
                        data[at:at] = bytes([rng.randrange(256)])
                    elif kind == 1:
                        data[at:at + rng.randrange(5)] = b""
                    elif kind == 2:
                        data[at:at + 1] = rng.choice(values)
                    else:
                        data[at:at] = data[:rng.randrange(len(data) + 1)]
                count += 1
                try:
                    w.raw(w.signed(bytes(data)) if rng.randrange(4) else bytes(data) + b"\n")
                    w.s.recv(65536)
                except socket.timeout:
                    break
                except OSError:
                    break
    print(f"{count} requests of noise, seed {seed}")


def ambush(address, number, old_sha, go):
    """Exit code 1 if a master that hung while another took over acknowledges something, or calls something old current.
    Since it was stopped, /changed/N got other contents than OLD_SHA, /removed/N was removed, /made/N was made."""
    asked = {f"STAT /changed/{number}": True, f"STAT /removed/{number}": True, f"STAT /made/{number}": True,
             "LIST /made - -": True, "STATUS": True, "NODES": True, "TARGETS -": True,
             f"MKDIR {random_id()} /made/{number}": False, f"RM {random_id()} /removed/{number}": False,
             f"MKDIR {random_id()} /wrong/{number}": False,
             f"COMMIT {random_id()} /wrong/{number} 0 0 - {HASH} 0": False}
    wires = [(line, Wire(address)) for line in asked for _ in range(2)]
    print("ready", flush=True)
    while not os.path.exists(go):
        time.sleep(0.01)
    for line, w in wires:
        w.s.settimeout(40 * SLOW)
        w.send(line, b"" if line.startswith("COMMIT") else None)
    print("sent", flush=True)
    said = {}

    def judge(line, answer, body):
        words = (answer or "(closed)").split(" ")
        verb, ok = line.split(" ")[0], words[0] == "OK"
        key = f"{verb} {' '.join(words[:2])}" if not ok or asked[line] else f"{verb} OK"
        said[key] = said.get(key, 0) + 1
        current = ok and words[1] == "current"
        return not (
            (not asked[line] and ok)  # it acknowledged a change that was made elsewhere, or with which it is alone
            or (verb in ("MKDIR", "RM") and "/wrong" not in line and words[1:2] == ["notfound"])
            or (line.startswith("STAT /changed") and current and old_sha in answer)
            or (line.startswith("STAT /removed") and current)
            or (line.startswith("STAT /made") and words[1:2] == ["notfound"])
            or (verb == "LIST" and current and f" {number}\n" not in body))

    bad = []
    for line, w in wires:
        raw = w.line()
        answer = raw.decode() if raw is not None else None
        body = ""
        if answer and answer.startswith("OK ") and asked[line]:
            length = int(answer.split(" ")[-2])
            body = w.body(length).decode()
        if not judge(line, answer, body):
            bad.append(f"{line}: {answer}")
        if line == "STATUS" and "reads current" in body:
            bad.append(f"it says that its reads are current: {body}")
    print("; ".join(f"{n} {k}" for k, n in sorted(said.items())))
    if bad:
        sys.exit("\n".join(bad))


class Master(threading.Thread):
    """Answers one node's HELLO, JOIN and PING, without a key."""
    identity = "a" * 16

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.socket.getsockname()[1]
        self.joined = threading.Event()

    def run(self):
        lines = self.socket.accept()[0].makefile("rwb", buffering=0)
        for line in lines:
            verb = line.split()[0]
            if verb == b"PING":
                self.joined.set()
            lines.write({b"HELLO": b"OK dfs/1 master %s - -\n" % self.identity.encode(),
                         b"JOIN": b"OK 1 %s 5 60000 0\n" % (b"c" * 32), b"PING": b"OK 1 5 5\n"}.get(verb, b"OK\n"))


def late(folder):
    master = Master()
    master.start()
    node = subprocess.Popen([os.environ["DFS"], "node", folder, "-m", master.address, "-l", "127.0.0.1:0",
                             "--insecure"], stdout=subprocess.PIPE, text=True)
    try:
        address = node.stdout.readline().split()[1]
        assert master.joined.wait(30 * SLOW), "the node does not join"

        def speaker():
            return Wire(address, "master", Master.identity, key=None)
        with speaker() as old, speaker() as new, speaker() as asker:
            mine = [row.split()[1] for row in asker.call("STATE", has_body=True)[1].decode().splitlines()
                    if row.startswith("node ")][0]
            part = f"SNAPSHOTPART 0 1\nSNAPSHOT 5 1 2\nREIGNED 5 1\nROSTERED 5 1\nROSTER {mine}\n".encode()
            old.call("PROMISE 5")
            new.call("PROMISE 5")
            new.call("INSTALL 5", part)
            new.call("RECORDS 5", b"TX 5 2 - 1\nDIR 2 1 important 1\n")
            before = asker.call("DIGEST")
            refused(old, "INSTALL 5", part)
            refused(old, "RECORDS 5", b"TX 5 3 - 1\nRM 2\n")
            assert asker.call("DIGEST") == before, "a snapshot that came late took the node back"
            new.call("RECORDS 5", b"TX 5 3 - 1\nDIR 3 1 more 1\n")
    finally:
        node.kill()
        node.wait()


def reuse(master, seconds):
    """Prints how many were acknowledged, came after the grace time, and lacked a chunk before it was over."""
    contents = [os.urandom(70000 + 10000 * i) for i in range(6)] + [os.urandom(300)]
    end, counts, errors = time.monotonic() + float(seconds), {"done": 0, "late": 0, "lost": 0}, []

    def put(w, nodes, path, data):
        digest = hashlib.sha256(data).hexdigest()
        (_, first), (other, second) = random.sample(sorted(nodes.items()), 2)
        with Wire(first) as node:
            node.call(f"PUT {other}@{second}", data)
        stored = time.monotonic()
        time.sleep(random.choice([0, 0, random.random() * 0.4]))
        soon = time.monotonic() < stored + 0.1
        try:
            w.call(f"COMMIT {random_id()} {path} {len(data)} 0 - {digest} 0", f"{digest} {len(data)}\n".encode())
        except Refused as why:
            assert why.args[0].split()[1] == b"unavailable", why  # the grace time was over
            counts["lost" if soon else "late"] += 1
            return
        counts["done"] += 1
        patience = time.monotonic() + 10 * SLOW
        while True:  # the master says who has it; one of them may be about to be told to drop it, but none that is
            rows = w.call(f"STAT {path}", has_body=True)[1].decode().splitlines()
            holders = [row.split()[2] for row in rows if row.startswith("node ")]
            for holder in holders:
                with Wire(holder) as node:
                    try:
                        words, got = node.call(f"GET {digest}", has_body=True)
                        assert got == data, f"{path}: wrong bytes from {holder}"
                        return
                    except Refused:
                        continue
            assert time.monotonic() < patience, f"{path} was acknowledged, and nobody of {holders} has it"
            time.sleep(0.05)

    def work(number):
        try:
            with Wire(master) as w:
                nodes = dict(row.split()[:2] for row in w.call("TARGETS -", has_body=True)[1].decode().splitlines())
                i, mine = 0, os.urandom(80000)
                while time.monotonic() < end:
                    i += 1
                    path = f"/reuse/{number}.{i}"
                    put(w, nodes, path, mine if number > 3 else random.choice(contents))
                    if number < 4:
                        time.sleep(random.random() * 0.2)
                    try:
                        w.call(f"RM {random_id()} {path}")
                    except Refused as why:
                        assert why.args[0].split()[1] == b"notfound", why
                    if number > 3:
                        time.sleep(0.2 + random.random())  # it may just be dropped when it comes again
                    elif random.random() < 0.2:
                        time.sleep(random.random() * 2)  # so that now and then nobody names a chunk
        except Exception as why:  # pylint: disable=broad-except
            errors.append(f"client {number}: {why!r}")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors, "\n".join(errors)
    print(counts["done"], "acknowledged,", counts["late"], "too late,", counts["lost"], "lost")
    assert counts["lost"] <= counts["done"] / 50, "chunks were dropped that had just been stored again"


def late_node(address):
    """A node hangs, is given up, and joins again: what it still says of the session before is refused."""
    identity, instance = "%016x" % random.getrandbits(64), "%016x" % random.getrandbits(64)
    def ping(session):
        return f"PING {session} ok 0 0 0 0 1 1 0 0 - 0 0 0 0 0 -"
    with Wire(address, "node", identity) as old, Wire(address, "node", identity) as new, Wire(address) as asker:
        epoch = [row.split()[1] for row in asker.call("STATUS", has_body=True)[1].decode().splitlines()
                 if row.startswith("epoch ")][0]
        cluster = [row.split()[1] for row in asker.call("STATUS", has_body=True)[1].decode().splitlines()
                   if row.startswith("cluster ")][0]
        join = f"JOIN {instance} {cluster} late 127.0.0.1:9 % 0.1.0 0 0"
        first = old.call(join)[1]
        old.call(ping(first))
        second = new.call(join)[1]
        new.call(ping(second))
        assert first != second
        chunk = hashlib.sha256(b"late").hexdigest()
        refused(old, f"REPORT {first} {epoch}", f"new {chunk} 4\n".encode(), words=("notfound",))
        refused(old, ping(first), words=("notfound",))
        refused(new, f"REPORT {second} {int(epoch) + 1}", f"new {chunk} 4\n".encode(), words=("readonly",))
        new.call(f"REPORT {second} {epoch}", f"new {chunk} 4\n".encode())


def layout(address, path="/"):
    """A row for each chunk of each file below a path: PATH NUMBER LENGTH NODE NODE ..., by the nodes' names."""
    with Wire(address) as w:
        def rows(line):
            words, data = w.call(line, has_body=True)
            return words, [row.split(" ") for row in data.decode().split("\n")[:-1]]

        name = {row[0]: row[1] for row in rows("NODES")[1]}
        below = [path.rstrip("/")]
        while below:
            here, after, more = below.pop(), "%", True
            while more:
                words, entries = rows(f"LIST {here or '/'} {after} -")
                more = words[3] == "more"
                for kind, *_, after in entries:
                    if kind == "dir":
                        below.append(f"{here}/{after}")
                        continue
                    file = here if words[2] == "file" else f"{here}/{after}"
                    held = rows(f"STAT {file}")[1]
                    nodes = [name[row[1]] for row in held if row[0] == "node"]
                    for number, (_, _, length, by) in enumerate(row for row in held if row[0] == "chunk"):
                        on = [nodes[int(i)] for i in by.split(",")] if by[0].isdigit() else []
                        print(file, number, length, *sorted(on))


def main():
    attacks = {name[7:]: run for name, run in globals().items() if name.startswith("attack_")}
    what, rest = sys.argv[1], sys.argv[2:]
    if what == "attacks":
        print("\n".join(attacks))
    elif what == "digest":
        with Wire(rest[0]) as w:
            print(*w.call("DIGEST")[1:])
    elif what == "mkdir":
        with Wire(rest[0]) as w:
            w.send(f"MKDIR {random_id()} {rest[1]}")
            print((w.line() or b"(closed)").decode())
    elif what == "ask":
        with Wire(rest[0]) as w:
            w.send(" ".join(rest[1:]).replace("REQUEST", random_id()))
            print((w.line() or b"(closed)").decode())
    elif what == "verify":
        with Wire(rest[0]) as w:
            for chunk in rest[1:]:
                print(*w.call(f"VERIFY {chunk}")[1:])
    elif what == "layout":
        layout(*rest)
    elif what == "late":
        late(*rest)
    elif what == "late_node":
        late_node(*rest)
    elif what == "reuse":
        reuse(*rest)
    elif what == "ambush":
        ambush(*rest)
    elif what in ("help", "status"):
        with Wire(rest[0]) as w:
            sys.stdout.write(w.call(what.upper(), has_body=True)[1].decode())
    else:
        attacks[what](*rest[:2] if what == "noise" else rest[:1])
        alive(rest[0])


if __name__ == "__main__":
    main()
