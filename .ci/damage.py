#!/usr/bin/env python3
"""The log of a node, read as docs/PROTOCOL.md section 9 describes it, and damaged on purpose. FOLDER is a node's.

  damage.py list FOLDER                     the kinds of entries and how many there are; fails if a header is not right
  damage.py spots FOLDER SEED LIVE          places to damage: each field of each kind of entry, one row for each:
                                            must|check|may KIND FIELD FILE OFFSET; must: the node has to say so; check:
                                            --fsck has to. The file LIVE has the SHA-256 of the chunks that count
  damage.py flip FILE OFFSET SEED           changes one bit of the byte there
  damage.py cut FOLDER BYTES                cuts so many bytes off the last segment, not counting zeros at its end
  damage.py zero FOLDER SEED                zeros a sector of a random segment
  damage.py swap|remove FOLDER SEED         two segments change their names; one is gone
  damage.py stranger FOLDER OTHER SEED      a segment of the node in OTHER comes instead of one, or behind the last"""
import hashlib, os, random, shutil, sys

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
KINDS = ["chunk", "record", "promise", "snapshot", "aside", "drop", "keep", "toc"]


def path_of(folder, number):
    parts = []
    for _ in range(6):
        parts.append(DIGITS[number % 36])
        number //= 36
    return os.path.join(folder, "log", *reversed(parts))


def segments(folder):
    """(number, path) of each segment, in order."""
    found = []
    for at, _, names in os.walk(os.path.join(folder, "log")):
        digits = "".join(os.path.relpath(at, os.path.join(folder, "log")).split(os.sep))
        found += [(int(digits + name, 36), os.path.join(at, name)) for name in names]
    return sorted(found)


def check(salt, number, offset, line):
    return hashlib.sha256(salt + f"{number}.{offset} ".encode() + line).hexdigest()[:16].encode()


class Segment:
    """Its line, its entries as (kind, offset of the header, of the payload, length, SHA-256, DURABLE), its end."""

    def __init__(self, number, path):
        self.number, self.path, self.entries, self.closed = number, path, [], False
        self.data = open(path, "rb").read()
        self.line = self.data[:self.data.index(b"\n") + 1]
        words = self.line.split(b" ")
        assert words[0] == b"segment" and words[1] == b"1" and int(words[4]) == number, self.line
        self.salt = bytes.fromhex(words[6].decode())
        assert check(self.salt, number, 0, self.line[:-17]) + b"\n" == words[7], path
        at, size = len(self.line), len(self.data.rstrip(b"\0"))
        while at < size:
            header = self.data[at:self.data.index(b"\n", at) + 1]
            if header.startswith(b"end "):
                assert len(header) == 32 and at + 32 == size, (path, at)
                assert check(self.salt, number, at, header[:15]) + b"\n" == header[15:], (path, at)
                assert int(header[4:14]) == self.entries[-1][1] and self.entries[-1][0] == "toc", (path, at)
                self.closed, self.end = True, at
                break
            words = header.split(b" ")
            assert len(words) == 5, (path, at, header)
            assert check(self.salt, number, at, header[:-17]) + b"\n" == words[4], (path, at, header)
            durable = tuple(int(n) for n in words[3].split(b"."))
            kind, length, payload = words[0].decode(), int(words[1]), at + len(header)
            assert kind in KINDS and self.data[payload + length] == 10, (path, at, header)
            self.entries.append((kind, at, payload, length, words[2].decode(), durable))
            if kind not in ("chunk", "toc"):
                digest = hashlib.sha256(self.data[payload:payload + length]).hexdigest()
                assert digest == words[2].decode(), (path, at, "the payload of", kind)
            at = payload + length + 1


def words_of(data, at):
    """Offsets of the words of the line at an offset, and of its newline."""
    end = data.index(b"\n", at)
    offsets = [at] + [i + 1 for i in range(at, end) if data[i] == 32]
    return offsets, end


def spots(folder, seed, live_file):
    rng = random.Random(seed)
    log = [Segment(number, path) for number, path in segments(folder)]
    live = set(open(live_file).read().split())
    entries = [(s, e) for s in log for e in s.entries]
    place = {}  # of each chunk, the newest
    for s, e in entries:
        if e[0] == "chunk":
            place[e[4]] = (s.number, e[2])
    keep = max([(s.number, e[2]) for s, e in entries if e[0] == "keep"], default=(0, 0))
    durable = max(e[5] for _, e in entries)

    def lives(s, e):
        """What it says is needed."""
        if e[0] == "chunk":
            return e[4] in live and place[e[4]] == (s.number, e[2])
        return e[0] != "toc" and (s.number, e[2]) >= keep and (s.closed or (s.number, e[2] + e[3]) < durable)

    def spot(how, kind, field, s, offset):
        print(how, kind, field, s.path, offset)

    for kind in KINDS:
        all_of = [(s, e) for s, e in entries if e[0] == kind and e[3] > 0]
        those = [(s, e) for s, e in all_of if lives(s, e)] or all_of
        if not those:
            continue
        for number, field in enumerate(["kind", "length", "hash", "durable", "check"]):
            s, e = rng.choice(those)
            offsets, end = words_of(s.data, e[1])
            following = offsets[number + 1] - 1 if number < 4 else end
            how = "check" if s.closed and lives(s, e) else "may"
            spot(how, kind, field, s, rng.randrange(offsets[number], following))
            spot(how, kind, "behind-" + field, s, following)
        for field, at in [("begin", lambda n: 0), ("middle", rng.randrange), ("last", lambda n: n - 1)]:
            s, e = rng.choice(those)
            spot("must" if lives(s, e) else "may", kind, field, s, e[2] + at(e[3]))
        s, e = rng.choice(those)
        spot("may", kind, "newline", s, e[2] + e[3])
    for number, field in enumerate("segment format cluster node number before salt check".split()):
        s = rng.choice(log)
        offsets, end = words_of(s.data, 0)
        following = offsets[number + 1] - 1 if number < 7 else end
        spot("may" if s is log[-1] else "must", "line", field, s, rng.randrange(offsets[number], following))
    closed = [s for s in log if s.closed]
    for field, first, last in [("end", 0, 4), ("offset", 4, 14), ("check", 15, 31), ("newline", 31, 32)]:
        s = rng.choice(closed)
        spot("may", "end", field, s, s.end + rng.randrange(first, last))


def flip(path, offset, seed):
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)[0]
        f.seek(offset)
        f.write(bytes([byte ^ (1 << random.Random(seed).randrange(8))]))


def zero(folder, seed):
    rng = random.Random(seed)
    _, path = rng.choice(segments(folder))
    with open(path, "r+b") as f:
        at = rng.randrange(max(1, os.path.getsize(path) // 512)) * 512
        f.seek(at)
        f.write(bytes(min(512, os.path.getsize(path) - at)))
    print(path, at)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    what, folder, *rest = sys.argv[1:]
    if what == "list":
        counts = {}
        for number, path in segments(folder):
            s = Segment(number, path)
            for e in s.entries:
                counts[e[0]] = counts.get(e[0], 0) + 1
            kind = "closed" if s.closed else "open"
            counts[kind] = counts.get(kind, 0) + 1
        for kind in sorted(counts):
            print(kind, counts[kind])
    elif what == "spots":
        spots(folder, rest[0], rest[1])
    elif what == "flip":
        flip(folder, int(rest[0]), rest[1])
    elif what == "cut":
        _, path = segments(folder)[-1]
        size = len(open(path, "rb").read().rstrip(b"\0"))
        os.truncate(path, max(0, size - int(rest[0])))
    elif what == "zero":
        zero(folder, rest[0])
    elif what == "swap":
        (_, a), (_, b) = random.Random(rest[0]).sample(segments(folder), 2)
        os.rename(a, a + ".x")
        os.rename(b, a)
        os.rename(a + ".x", b)
        print(a, b)
    elif what == "remove":
        _, path = random.Random(rest[0]).choice(segments(folder))
        os.unlink(path)
        print(path)
    elif what == "stranger":
        rng = random.Random(rest[1])
        mine, (_, theirs) = segments(folder), rng.choice(segments(rest[0]))
        path = rng.choice([rng.choice(mine)[1], path_of(folder, mine[-1][0] + 1)])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copyfile(theirs, path)
        print(theirs, path)
    else:
        sys.exit(__doc__)


main()
