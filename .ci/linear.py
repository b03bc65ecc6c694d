#!/usr/bin/env python3
"""Are the answers of a cluster such as one server could have given, one after another? (Linearizability; of each path,
or of all paths together that renames link.)

  linear.py run CLIENTS PATHS SEED HISTORY HALT    clients write, read, rename (from each path of a pair to the other)
                                                   and delete a few paths until the file HALT exists
  linear.py check HISTORY...                       decides; exit code 1 and the first contradiction in each set of paths
  linear.py sides HISTORY CUTS                     in a cut between even clients (c1) and odd ones (c2), a line
                                                   "c1|c2|any|none BEGIN END", what began after BEGIN is acknowledged
                                                   to that side alone; "any": to at most one of them
  linear.py selftest SEED                          the checker on histories whose verdict is known, and on random ones

DFS names the binary; LINEAR_PREFIX, if set, commands separated by commas, one for each client, that run it elsewhere;
LINEAR_WEB, if set, HOST:PORT[,...] of servers that half of the reads ask over HTTP.
A history has one operation on a line: [path, kind, value, begin, end, result, client]. Kinds are write, read, rm, mv,
whose value is the new path; result is "ok", "absent" (it found nothing at path), "unknown" (it may have happened, or
may happen any time later), "none" (it certainly did not happen) or "old" (a read that says that it may be old: it is
only asked that its value was once written). Each operation asks the masters in a random order."""
import http.client, itertools, json, os, random, subprocess, sys, threading, time

FOREVER = float("inf")


# ---- The checker ----

def step(op, state):
    """The state after op, or False if op can't have happened in this one. A state is the values of all paths, None if
    there is no such file; here an operation's paths are their numbers."""
    at, kind, what, _, _, result = op[:6]
    if kind == "write":
        return state[:at] + (what,) + state[at + 1:]
    if kind == "read" and result == "ok":
        return state if state[at] == what else False
    if kind == "read" or result == "absent":
        return state if state[at] is None else False
    if state[at] is None:
        return False
    after = list(state)
    after[at] = None
    if kind == "mv":
        after[what] = state[at]
    return tuple(after)


def numbered(ops, merge=True):
    """The operations with numbers for paths, and how many paths. Values that nobody read are all the same then."""
    number = {}
    for op in ops:
        for path in [op[0]] + ([op[2]] if op[1] == "mv" else []):
            number.setdefault(path, len(number))
    seen = {op[2] for op in ops if op[1] == "read"}
    what = {"mv": lambda op: number[op[2]], "write": lambda op: op[2] if op[2] in seen or not merge else "?"}
    return [(number[op[0]], op[1], what.get(op[1], lambda op: op[2])(op), *op[3:]) for op in ops], len(number)


class Worlds:
    """A set of (state, known operations that are open and have not happened yet, unknown ones that have happened). Of
    two that differ only in the last, the one that is contained in the other can do whatever the other can."""

    def __init__(self):
        self.used = {}

    def add(self, state, waiting, used):
        sets = self.used.setdefault((state, waiting), [])
        if any(other <= used for other in sets):
            return False
        sets[:] = [other for other in sets if not used <= other] + [used]
        return True

    def __iter__(self):
        return iter([(state, waiting, used) for (state, waiting), sets in self.used.items() for used in sets])


def settle(ops, state, waiting):
    """What changes nothing happens as soon as it can: waiting gains it nothing."""
    return frozenset(i for i in waiting if (ops[i][1] != "read" and ops[i][5] == "ok") or step(ops[i], state) is False)


def completed(ops, worlds, op, free):
    """The worlds in which op has happened, and before it whatever had to; no more than that."""
    after, seen, todo = Worlds(), Worlds(), []
    for state, waiting, used in worlds:
        if op not in waiting:
            after.add(state, waiting, used)
        elif seen.add(state, waiting, used):
            todo.append((state, waiting, used))
    while todo:
        state, waiting, used = todo.pop()
        for i in itertools.chain(waiting, free - used):
            then = step(ops[i], state)
            if then is False:
                continue
            rest = settle(ops, then, waiting - {i})
            now = used | {i} if i in free else used
            if op not in rest:
                after.add(then, rest, now)
            elif seen.add(then, rest, now):
                todo.append((then, rest, now))
    return after


def check(ops):
    """None if the operations are linearizable, else the first one whose answer nothing explains."""
    original, (ops, paths) = ops, numbered(ops)
    events = sorted([(op[3], 0, i) for i, op in enumerate(ops)] +
                    [(op[4], 1, i) for i, op in enumerate(ops) if op[5] != "unknown"])
    worlds, free = Worlds(), frozenset()
    worlds.add((None,) * paths, frozenset(), frozenset())
    for _, ended, i in events:
        if ended:
            worlds = completed(ops, worlds, i, free)
            if not worlds.used:
                return original[i]
        elif ops[i][5] == "unknown":
            if ops[i][1] != "read":
                free |= {i}
        else:
            more = Worlds()
            for state, waiting, used in worlds:
                more.add(state, settle(ops, state, waiting | {i}), used)
            worlds = more
    return None


def linked(ops):
    """The operations in sets of paths that no rename leaves."""
    sets = {}
    for op in ops:
        for path in [op[0]] + ([op[2]] if op[1] == "mv" else []):
            sets.setdefault(path, {path})
        if op[1] == "mv" and sets[op[0]] is not sets[op[2]]:
            sets[op[0]] |= sets[op[2]]
            for path in sets[op[0]]:
                sets[path] = sets[op[0]]
    groups = {}
    for op in ops:
        groups.setdefault(min(sets[op[0]]), []).append(op)
    return sorted(groups.items()), len(sets)


def check_files(names):
    bad, ops = 0, []
    for name in names:
        ops += [json.loads(line) for line in open(name)]
    written = {op[2] for op in ops if op[1] == "write"}
    for op in ops:
        if op[1] == "read" and op[2] is not None and op[2] not in written:
            print(f"{op[0]}: {op[2]!r} was read and never written")
            bad += 1
    ops = [op for op in ops if op[5] != "old" and op[5] != "none"]
    groups, paths = linked(ops)
    for path, group in groups:
        wrong = check(group)
        if wrong:
            bad += 1
            print(f"{path}: not linearizable: {wrong}")
            for op in sorted(group, key=lambda op: op[3]):
                if op[4] > wrong[3] - 3 and op[3] < wrong[4] + 1:
                    print("   ", op)
    print(f"{len(ops)} operations on {paths} paths in {len(groups)} sets: "
          f"{'linearizable' if not bad else f'{bad} contradictions'}")
    return bad


def sides(history, cuts):
    bad = 0
    ops = [json.loads(line) for line in open(history)]
    for line in open(cuts):
        winner, begin, end = line.split()
        done = {name: [op for op in ops if op[1] != "read" and op[5] == "ok" and op[6] % 2 == side and
                       op[3] >= float(begin) and op[4] <= float(end)] for side, name in enumerate(("c1", "c2"))}
        print(f"{winner}, {float(end) - float(begin):.1f} s: {len(done['c1'])} acknowledged on one side, "
              f"{len(done['c2'])} on the other")
        if winner == "any" and done["c1"] and done["c2"]:
            bad += 1
            print(f"    both sides acknowledged: {done['c1'][0]}, {done['c2'][0]}")
        for name in done:
            if winner not in ("any", name) and done[name]:
                bad += 1
                print(f"    the wrong side acknowledged: {done[name][0]}")
    return bad


# ---- Its self-test ----

def brute(ops):
    """The same, by trying all orders."""
    ops, paths = numbered(ops, False)

    def go(state, left):
        known = [op for op in left if op[5] != "unknown"]
        if not known:
            return True
        first = min(op[4] for op in known)
        for op in left:
            if op[3] <= first:
                then = step(op, state)
                if then is not False and go(then, [other for other in left if other is not op]):
                    return True
        return False
    return go((None,) * paths, [op for op in ops if op[5] != "unknown" or op[1] != "read"])


def w(value, begin, end, result="ok", path="/"):
    return [path, "write", value, begin, end, result]


def r(value, begin, end, path="/"):
    return [path, "read", value, begin, end, "ok" if value is not None else "absent"]


def rm(begin, end, result="ok", path="/"):
    return [path, "rm", None, begin, end, result]


def mv(begin, end, result="ok", path="/", to="/2"):
    return [path, "mv", to, begin, end, result]


KNOWN = [  # (linearizable, what, history)
    (True, "nothing", []),
    (True, "one after another", [w("a", 0, 1), r("a", 2, 3), w("b", 4, 5), r("b", 6, 7), rm(8, 9), r(None, 10, 11)]),
    (True, "a read during a write, old", [w("a", 0, 1), w("b", 2, 9), r("a", 3, 4), r("b", 5, 6)]),
    (False, "an old value after the new one", [w("a", 0, 1), w("b", 2, 9), r("b", 3, 4), r("a", 5, 6)]),
    (False, "a lost write", [w("a", 0, 1), r(None, 2, 3)]),
    (False, "a lost second write", [w("a", 0, 1), w("b", 2, 3), r("a", 4, 5)]),
    (False, "back from the dead", [w("a", 0, 1), rm(2, 3), r("a", 4, 5)]),
    (False, "read before it was written", [r("a", 0, 1), w("a", 2, 3)]),
    (False, "two removals of one file", [w("a", 0, 1), rm(2, 3), rm(4, 5)]),
    (False, "two removals at once of one file", [w("a", 0, 1), rm(2, 5), rm(2, 5)]),
    (True, "two removals at once, one found nothing", [w("a", 0, 1), rm(2, 5), rm(2, 5, "absent")]),
    (False, "removed, says it, and it is there", [w("a", 0, 1), rm(2, 3, "absent")]),
    (True, "an unknown write that happened", [w("a", 0, 1), w("b", 2, FOREVER, "unknown"), r("a", 3, 4), r("b", 5, 6)]),
    (True, "an unknown write that did not happen", [w("a", 0, 1), w("b", 2, FOREVER, "unknown"), r("a", 30, 40)]),
    (True, "an unknown write that happened late",
     [w("b", 0, FOREVER, "unknown"), w("a", 3, 4), r("a", 5, 6), r("b", 7, 8)]),
    (False, "an unknown write that happened twice",
     [w("b", 0, FOREVER, "unknown"), r("b", 1, 2), w("a", 3, 4), r("a", 5, 6), r("b", 7, 8)]),
    (False, "an unknown write seen before it began", [r("b", 0, 1), w("b", 2, FOREVER, "unknown")]),
    (True, "an unknown removal", [w("a", 0, 1), rm(2, FOREVER, "unknown"), r("a", 3, 4), r(None, 5, 6)]),
    (False, "an unknown removal, twice",
     [w("a", 0, 1), rm(2, FOREVER, "unknown"), r(None, 3, 4), w("b", 5, 6), r(None, 7, 8)]),
    (True, "a removal of what an unknown write made", [w("a", 0, FOREVER, "unknown"), rm(1, 2), r(None, 3, 4)]),
    (False, "two masters: both acknowledge, each reads its own",
     [w("a", 0, 1), w("b", 0, 1), r("a", 2, 3), r("b", 4, 5), r("a", 6, 7)]),
    (False, "two readers see two writes in two orders",
     [w("a", 0, 9), w("b", 0, 9), r("a", 1, 2), r("b", 3, 4), r("a", 5, 6)]),
    (True, "renamed", [w("a", 0, 1), mv(2, 3), r(None, 4, 5), r("a", 6, 7, "/2")]),
    (True, "renamed and back",
     [w("a", 0, 1), mv(2, 3), mv(4, 5, path="/2", to="/"), r("a", 6, 7), r(None, 8, 9, "/2")]),
    (False, "renamed, and still there", [w("a", 0, 1), mv(2, 3), r("a", 4, 5)]),
    (False, "renamed, and not where it should be", [w("a", 0, 1), mv(2, 3), r(None, 4, 5, "/2")]),
    (False, "renamed over another file, which stays",
     [w("a", 0, 1), w("b", 0, 1, path="/2"), mv(2, 3), r("b", 4, 5, "/2")]),
    (True, "seen at both, in the order of time", [w("a", 0, 1), mv(2, 9), r("a", 3, 4), r("a", 5, 6, "/2")]),
    (False, "seen at the new name, then at the old one", [w("a", 0, 1), mv(2, 9), r("a", 3, 4, "/2"), r("a", 5, 6)]),
    (False, "seen at neither, halfway", [w("a", 0, 1), mv(2, 9), r(None, 3, 4), r(None, 5, 6, "/2")]),
    (False, "two renames of one file", [w("a", 0, 1), mv(2, 5), mv(2, 5, to="/3")]),
    (True, "two renames of one file, one found nothing", [w("a", 0, 1), mv(2, 5), mv(2, 5, "absent", to="/3")]),
    (False, "a rename that finds nothing, and it is there", [w("a", 0, 1), mv(2, 3, "absent")]),
    (False, "a rename of nothing", [mv(0, 1)]),
    (False, "renamed, removed, and back at the old name",
     [w("a", 0, 1), mv(2, 3), rm(4, 5, path="/2"), r("a", 6, 7)]),
    (False, "removed, then renamed", [w("a", 0, 1), rm(2, 3), mv(4, 5)]),
    (True, "an unknown rename that happened late",
     [w("a", 0, 1), mv(2, FOREVER, "unknown"), r("a", 3, 4), w("b", 5, 6), r("b", 7, 8, "/2"), r(None, 9, 10)]),
    (False, "an unknown rename that happened twice",
     [w("a", 0, 1), mv(2, FOREVER, "unknown"), r("a", 3, 4, "/2"), w("b", 5, 6), r("b", 7, 8, "/2")]),
    (False, "an unknown rename that happened by half",
     [w("a", 0, 1), mv(2, FOREVER, "unknown"), r("a", 3, 4, "/2"), r("a", 5, 6)]),
    (False, "two masters: a rename and a write, each with its own readers",
     [w("a", 0, 1), mv(2, 9), w("b", 2, 9), r(None, 3, 4), r("b", 5, 6), r("a", 7, 8), r("b", 10, 11, "/2")]),
    (True, "many at once", [w(str(i), 0, 9) for i in range(7)] + [r(str(i), i + 1, i + 1.5) for i in range(7)]),
]


def random_history(rng, honest):
    """Of files whose operations happen at some moment between begin and end; then one answer may be changed."""
    ops, now = [], 0.0
    for i in range(rng.randrange(2, 8)):
        begin = now + rng.random() * 2
        end = begin + rng.random() * rng.choice([1, 8])
        now = begin
        at = begin + rng.random() * (end - begin)
        ops.append([rng.choice(["write", "write", "read", "read", "rm", "mv"]), str(i), begin, end, at])
    files, out = {}, []
    for kind, name, begin, end, at in sorted(ops, key=lambda op: op[4]):
        path, to = rng.sample(["/", "/2"], 2)
        unknown = kind != "read" and rng.random() < 0.25
        happens = not unknown or rng.random() < 0.5
        result = "unknown" if unknown else "ok" if kind == "write" or path in files else "absent"
        if unknown:
            end = FOREVER
        if kind == "write":
            out.append(w(name, begin, end, result, path))
            if happens:
                files[path] = name
        elif kind == "read":
            out.append(r(files.get(path), begin, end, path))
        else:
            out.append(rm(begin, end, result, path) if kind == "rm" else mv(begin, end, result, path, to))
            if happens and path in files:
                value = files.pop(path)
                if kind == "mv":
                    files[to] = value
    if not honest:
        op = rng.choice(out)
        if op[1] == "read":
            op[:] = r(rng.choice([None] + [o[2] for o in out if o[1] == "write"]), op[3], op[4], op[0])
        elif op[1] != "write" and op[5] != "unknown":
            op[5] = "ok" if op[5] == "absent" else "absent"
    return out


def selftest(seed):
    for good, what, ops in KNOWN:
        assert (check(ops) is None) == good, f"{what}: should be {'good' if good else 'bad'}"
        assert brute(ops) == good, f"{what}: brute force says otherwise"
    rng, refused = random.Random(seed), 0
    for i in range(3000):
        ops = random_history(rng, i % 2 == 0)
        verdict = check(ops) is None
        assert verdict == brute(ops), f"seed {seed}, history {i}: {verdict}, brute force says otherwise: {ops}"
        assert verdict or i % 2 == 1, f"seed {seed}: an honest history was refused: {ops}"
        refused += not verdict
    assert refused > 100
    print(f"the checker: {len(KNOWN)} known histories, 3000 random ones ({refused} not linearizable), seed {seed}")


# ---- The clients ----

class Client:
    NOT_DONE = (1, 4, 13)
    lock = threading.Lock()

    def __init__(self, number, paths, seed, history, halt):
        self.number, self.paths, self.rng, self.halt = number, paths, random.Random(seed * 100 + number), halt
        self.history, self.count, self.errors = history, {}, []
        prefixes = [p for p in os.environ.get("LINEAR_PREFIX", "").split(",") if p]
        self.webs = [w for w in os.environ.get("LINEAR_WEB", "").split(",") if w]
        self.command = (prefixes[number % len(prefixes)].split() if prefixes else []) + [os.environ["DFS"], "-q"]

    def dfs(self, *args, data=None):
        """Exit code (None: it was ended from here), output, and what it said."""
        masters = os.environ["DFS_MASTER"].split(",")
        self.rng.shuffle(masters)
        child = subprocess.Popen(self.command + list(args), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, env={**os.environ, "DFS_MASTER": ",".join(masters)})
        try:
            out, err = child.communicate(data, timeout=90)
            return child.returncode, out, err.decode()
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            return None, b"", ""

    def web(self, path):
        """The same, as dfs -d would end, by HTTP from one of the servers."""
        c = http.client.HTTPConnection(self.rng.choice(self.webs), timeout=20)
        try:
            with open(os.environ["DFS_KEY_FILE"]) as key:
                c.request("GET", "/files" + path, headers={"Authorization": "Bearer " + key.read().strip()})
            answer = c.getresponse()
            out = answer.read()
            code = {200: 0, 404: 2}.get(answer.status, 13 if answer.status >= 500 else 6)
            return code, out, "possibly old" if answer.getheader("X-Dfs-Possibly-Old") else str(answer.status)
        except (OSError, http.client.HTTPException):
            return 1, b"", ""
        finally:
            c.close()

    def operation(self, i):
        number = self.rng.randrange(self.paths)
        path = f"/lin/{number}"
        kind = self.rng.choices(("write", "read", "rm", "mv"), (40, 35, 10, 15))[0]
        kind_said = kind
        value = f"{self.number}.{i}." + "x" * self.rng.randrange(50) if kind == "write" else None
        begin = time.monotonic()
        if kind == "write":
            code, out, said = self.dfs("-u", path, "-", data=value.encode())
        elif kind == "read" and self.webs and self.rng.random() < 0.5:
            kind_said, (code, out, said) = "web read", self.web(path)
        elif kind == "read":
            code, out, said = self.dfs("-d", path, "-")
        elif kind == "mv":
            value = f"/lin/{number ^ 1}"
            code, out, said = self.dfs("--mv", path, value)
        else:
            code, out, said = self.dfs("--rm", path)
        end = time.monotonic()
        if code == 0:
            result = "ok"
            if kind == "read":
                value = out.decode()
        elif code == 2 and kind != "write":
            result = "absent"
        elif code in self.NOT_DONE:
            result = "none"
        else:
            result, end = "unknown" if kind != "read" else "none", FOREVER
            if code != 12 or kind == "read":
                self.errors.append(f"{kind} {path}: exit code {code}: {said}")
        if kind == "read" and "possibly old" in said:
            result = "old"
        what = f"{kind_said} {result}"
        self.count[what] = self.count.get(what, 0) + 1
        with Client.lock:
            self.history.write(json.dumps([path, kind, value, begin, end, result, self.number]) + "\n")

    def run(self):
        i = 0
        while not os.path.exists(self.halt):
            i += 1
            self.operation(i)


def run(clients, paths, seed, history, halt):
    with open(history, "w", buffering=1) as out:
        all_clients = [Client(n, paths, seed, out, halt) for n in range(clients)]
        threads = [threading.Thread(target=c.run) for c in all_clients]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    count, errors = {}, []
    for c in all_clients:
        errors += c.errors
        for what, n in c.count.items():
            count[what] = count.get(what, 0) + n
    print(", ".join(f"{n} {what}" for what, n in sorted(count.items())))
    for e in errors[:20]:
        print(f"unexpected: {e}")
    return bool(errors)


def main():
    what, rest = sys.argv[1], sys.argv[2:]
    if what == "run":
        sys.exit(run(int(rest[0]), int(rest[1]), int(rest[2]), rest[3], rest[4]))
    elif what == "check":
        sys.exit(check_files(rest) > 0)
    elif what == "sides":
        sys.exit(sides(*rest) > 0)
    elif what == "selftest":
        selftest(int(rest[0]))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
