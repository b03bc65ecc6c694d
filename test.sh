#!/usr/bin/env bash
# The tests, on the real binary; DFS names it (./dfs).
#
#   ./test.sh [NAME...]     run all, or some     --list    their names         -j N     so many at once (4)
#   ./test.sh --demo        a cluster at work    --long    more rounds, larger --seed N repeat a run's random choices
#                                                --keep    leave the folders
#
# A test is a function test_NAME below its one-line description. It runs in a folder of its own, stops at the first
# command that fails, and ends well only if every server that it left running ends well on SIGTERM and no sanitizer
# said a word. `skip WHY` ends it early. Waiting is polling with a deadline (wait_for), longer under sanitizers.
# shellcheck disable=SC2016,SC2094,SC2317,SC2329 # ` is meant as it is; some functions are called through wait_for
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
self=$here/$(basename "$0")
PATH=/usr/bin:$PATH # the system's own tools: a python3 that is a wrapper can take half a second to start
DFS=$(realpath "${DFS:-$here/dfs}")
alarm='Sanitizer|runtime error:|Assertion .* failed|stack smashing'
ip=127.0.0.1 # each test has one of its own, so that no port is taken while its server is away
work='' seed=$((RANDOM * 32768 + RANDOM)) long='' keep='' parallel=4 slow=1 names=()
declare -A PID=() ADDR=()
net='' from=() # the prefix of network namespaces in use, and the command that runs clients in one of them
under=() # the command that runs servers; it finds the name of the server in WHO

# ---- Helpers ----

die() { echo "$*" >&2; exit 1; }
skip() { echo "$*" >"$work/$name.skip"; exit 77; }
not() { if "$@"; then echo "should have failed: $*" >&2; return 1; fi; }
need() { local tool; for tool; do command -v "$tool" >/dev/null || skip "no $tool"; done; }
plain() { [ "$slow" = 1 ] || skip "says nothing about a binary with sanitizers"; }
# A process costs more than anything else here, 20 ms on a virtual machine: what is done often is done by the shell.
nap() { # MILLISECONDS
    local left
    printf -v left '%d.%03d' $(($1 / 1000)) $(($1 % 1000))
    read -r -t "$left" -u 7 || true # of a pipe into which nobody writes
}
exec 7<> <(:)
wait_for() { # [-t SECONDS] COMMAND...: until it succeeds; asks often at first, then less so
    local limit=60 end ms=20
    [ "$1" = -t ] && { limit=$2; shift 2; }
    end=$((SECONDS + limit * slow))
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || { echo "waited $limit s in vain for: $*" >&2; return 1; }
        nap "$ms"
        ms=$((ms < 200 ? ms * 5 / 4 : ms))
    done
}
dfs() { "${from[@]}" "$DFS" "$@" 2>>client.err 7<&-; }
text='' # what the two below have read
says() { local like=$'\n'$1; [[ $'\n'$text =~ $like ]]; } # EXPRESSION: a line of it begins like this
read_all() { # FILE
    text=''
    IFS= read -r -d '' text 2>/dev/null <"$1" || true
}
asked() { # ARGS...: what dfs prints, whatever its exit code is, into `text`
    dfs "$@" >"$work/asked.$BASHPID" || true
    read_all "$work/asked.$BASHPID"
}
fails() { # CODE[|CODE] ARGS...: dfs fails with this exit code and says why
    local want=$1 got=0
    shift
    "${from[@]}" "$DFS" "$@" >fails.out 2>fails.text 7<&- || got=$?
    read_all fails.text
    printf %s "$text" >>client.err
    [[ $got =~ ^($want)$ ]] || die "exit code $got, not $want: dfs $(printf '%q ' "$@" | head -c 300)"
    says 'dfs: .' || die "exit code $got without a word: dfs $*"
}
random() { head -c "$1" /dev/urandom; }
sha() {
    local sum
    sum=$(sha256sum)
    echo "${sum%% *}"
}
rss_kb() { awk '/^VmRSS/ {print $2}' "/proc/$1/status"; }
count_threads() { find "/proc/$1/task" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l; }
files_open() { find "/proc/$1/fd" -mindepth 1 2>/dev/null | wc -l; }
rounds() { # NORMAL SANITIZED: how many rounds
    if [ -n "$long" ]; then echo $(($1 * 5)); elif [ "$slow" = 1 ]; then echo "$1"; else echo "$2"; fi
}
shuffle() { # WORD...: puts them into `shuffled`, in random order
    local i other swap
    shuffled=("$@")
    for ((i = $# - 1; i > 0; i--)); do
        other=$((RANDOM % (i + 1))) swap=${shuffled[i]}
        shuffled[i]=${shuffled[other]}
        shuffled[other]=$swap
    done
}
pause() { # MILLISECONDS: a random time up to this; when, not whether
    nap $((RANDOM % $1))
}

# ---- Servers ----

serving() { read_all "$1.out" && says $'listening .*\n' || ! kill -0 "${PID[$1]}"; }
start() { # NAME ARGS...: a server; its output in NAME.out and NAME.err
    local who=$1 via=()
    shift
    [ -z "$net" ] || via=(nsenter "--net=/run/netns/$net-$who")
    rm -f "$who.out"
    WHO=$who "${via[@]}" "${under[@]}" "$DFS" "$@" >"$who.out" 2>>"$who.err" 7<&- &
    PID[$who]=$!
    wait_for serving "$who"
    read_all "$who.out"
    ADDR[$who]=''
    ! says $'listening ([^\n ]*)' || ADDR[$who]=${BASH_REMATCH[1]}
    [ -n "${ADDR[$who]}" ] || { wait "${PID[$who]}"; local code=$?; unset "PID[$who]"; return "$code"; }
}
node() { start "$1" node "$PWD/$1" -n "$1" -l "$ip:0" "${@:2}"; }
master() { start "${1:-m}" master -l "${2:-$ip:0}" "${@:3}"; }
crash() { # NAME...: kill -9, all at once
    local who list=()
    for who; do list+=("${PID[$who]}"); done
    kill -9 "${list[@]}"
    for who; do wait "${PID[$who]}" 2>/dev/null || true; unset "PID[$who]"; done
}
fell() { crash "$@"; } # what a kill round does to them; a test may have a harder way
stop() { # NAME...: SIGTERM; each must end with exit code 0
    local who code
    for who; do kill "${PID[$who]}"; done
    for who; do
        wait_for ended "$who" || { kill -9 "${PID[$who]}"; die "$who does not stop"; }
        code=0
        wait "${PID[$who]}" || code=$?
        unset "PID[$who]"
        [ "$code" = 0 ] || die "$who ended with exit code $code"
    done
}
ended() { ! kill -0 "${PID[$1]}" || { read_all "/proc/${PID[$1]}/status" && [[ $text == *$'\nState:\tZ'* ]]; }; }
cluster() { # N [MASTER-ARGS...]: a new cluster with a key and N nodes, all in its roster
    local n
    export DFS_KEY_FILE=$PWD/key
    master m "$ip:0" --init "${@:2}"
    export DFS_MASTER=${ADDR[m]}
    for n in $(seq "$1"); do node "n$n"; done
    [ "$1" = 0 ] || settled "$1"
}
settled() { # N: so many nodes are up, and all is well
    wait_for is_up "$1"
    wait_for state healthy || { status; dfs --nodes; return 1; }
    wait_for current
}
status() { dfs --status "$@" || true; } # its exit code says how the cluster is
current() { asked --status && says 'reads  *current'; }
# In `fast` tests a machine that stands still for a second makes nodes that are only late look dead; in `sturdy` ones
# not, and who is killed is noticed as quickly, for its connections end.
sturdy() { fast; if [ "$slow" = 1 ]; then export DFS_DEAD_AFTER=5s; else export DFS_DEAD_AFTER=8s; fi; }
fast() { export DFS_PING=50ms DFS_DEAD_AFTER=1s; [ "$slow" = 1 ] || export DFS_PING=200ms DFS_DEAD_AFTER=3s; }
state_now() { status | awk '$1 == "state" {print $2}'; }
state() { asked --status && says "state  *$1"$'\n'; }
is_up() { # N: so many nodes are up
    local line up=0
    asked --nodes
    while read -r line; do [[ $line != *' up '* ]] || up=$((up + 1)); done <<<"$text"
    [ "$up" = "$1" ]
}
roster_is() { asked --status -j && [[ $text == *"\"roster\": $1,"* ]]; } # and a master reigns
node_is() { asked --nodes && says "$1  *$2 "; } # NAME STATE
held_by() { # PATH NODE...: every chunk of PATH is on all these nodes
    local path=$1 text who
    shift
    text=$(dfs --stat "$path" | sed -n 's/^ *[0-9]* *[0-9a-f]*\.\.\. *[0-9]* *//p')
    for who; do [ -z "$text" ] || not grep -qvw "$who" <<<"$text" || return 1; done
}
same() { # PATH LOCAL: the file downloads and is equal
    dfs -q -d "$1" same.got && cmp "$2" same.got && rm same.got
}
digest() { "${from[@]}" python3 "$here/.ci/wire.py" digest "$1"; }

# ---- Tests ----

# the headers of vendor/ pass their own tests
test_vendor() {
    local row header flag
    for row in sha256:SHA256_TEST json:JSON_TEST; do
        header=${row%:*} flag=${row#*:}
        gcc -std=c11 -Wall -Wextra -Werror -O1 -x c "-D$flag" "$here/vendor/$header.h" -o "$header" -pthread
        timeout 120 "./$header" | tee "$header.out" | tail -n 1
        tail -n 1 "$header.out" | grep >/dev/null '^[1-9][0-9]* passed, 0 failed'
    done
}

# a copy of the tree with only gcc and make: one static binary, no warning; clang too
test_build() {
    local tool
    plain
    mkdir bin tree
    for tool in gcc make as ld; do ln -s "$(command -v "$tool")" bin/; done
    for tool in sh mktemp rm echo grep mkdir ls; do ln -s "$(command -v "$tool")" bin/; done
    cp -r "$here"/{Makefile,dfs.c,vendor} tree/
    unset MAKEFLAGS MAKELEVEL MFLAGS
    env -i "PATH=$PWD/bin" make -C tree >make.log 2>&1
    not grep -iE 'warning|error' make.log
    ldd tree/dfs 2>&1 | grep >/dev/null -E 'not a dynamic executable|statically linked'
    readelf -lW tree/dfs >readelf.out
    not grep INTERP readelf.out
    tree/dfs --version | grep '^dfs '
    command -v clang >/dev/null || return 0
    make -C tree -B CC=clang CFLAGS='-O0 -Werror' >make.log 2>&1
    not grep -iE 'warning|error:' make.log
    tree/dfs --version
}

# ./test.sh --demo, as `make demo` runs it
test_demo() {
    "$self" --demo >demo.out 2>demo.err
    grep -q 'the copy is equal' demo.out
    grep -q '^sha256 ' demo.out
    [ "$(grep -c '^n[123] .* up ' demo.out)" = 3 ]
}

# files of all sizes up and down; --stat shows the SHA-256 and all nodes; pipes
test_sizes() {
    local size chunk=4194304
    cluster 3
    for size in 0 1 2 4095 4096 65536 65537 $((chunk - 1)) $chunk $((chunk + 1)) $((2 * chunk)) 30000000; do
        random "$size" >f
        dfs -q -u "/a b/$size" f
        same "/a b/$size" f
        wait_for held_by "/a b/$size" n1 n2 n3
        dfs --stat "/a b/$size" >stat
        grep -qx "sha256  $(sha <f)" stat
        grep -qE "^size    $size " stat
        grep -qx "chunks  $(((size + chunk - 1) / chunk))" stat
    done
    dfs -q -u /pipe - <f
    dfs -q -d /pipe - | cmp - f
    head -c 30000000 f | dfs -q -u /pipe2 - --chunk-size 64K
    dfs -q -d /pipe2 - | cat | cmp - f
    dfs -q -u /empty - </dev/null
    [ "$(dfs -q -d /empty - | wc -c)" = 0 ]
    dfs -q -d /pipe - | head -c 100000 | cmp - <(head -c 100000 f) || true # the reader goes away
    wait_for state healthy
}

# 256 MiB of random bytes, and 1 GiB of a sparse file; 1 GiB and 5 GiB in the long run
test_large() {
    local size=$((256 << 20)) sparse=1 room sparse_sha
    sparse_sha[1]=a21e59b8cd3c168123cf312e67a489a88df468d2ffc7a525d5f54e0ec7e999e5
    sparse_sha[5]=b7a074ee371f1fcccade2ce142f1a9724369b7dcd1daea275e37cdf83c63fb25
    [ -z "$long" ] || size=$((1024 << 20)) sparse=5
    [ "$slow" = 1 ] || size=$((64 << 20))
    room=$(df --output=avail -B1 . | tail -n 1)
    [ "$room" -gt $((size * 6)) ] || { size=$((room / 6 / 4096 * 4096)); echo "only $size bytes: the disk is small"; }
    cluster 3
    random "$size" >f
    dfs -q -u /large f
    dfs -q -d /large - | tee >(sha >f.sha) | cmp - f
    wait_for held_by /large n1 n2 n3
    wait_for test -s f.sha
    dfs --stat /large | grep >/dev/null -x "sha256  $(cat f.sha)"
    rm f
    dfs --rm /large
    truncate -s "${sparse}G" f # its SHA-256 is known, which saves reading it twice more
    printf middle | dd of=f bs=1 seek=700000000 conv=notrunc status=none
    dfs -q -u /sparse f
    dfs --stat /sparse >stat
    grep -qE "^size    $((sparse << 30)) " stat
    grep -qx "sha256  ${sparse_sha[sparse]}" stat
    wait_for held_by /sparse n1 n2 n3
    [ "$(dfs -q -d /sparse - | sha)" = "${sparse_sha[sparse]}" ]
}

# names of every kind, and those that are refused
test_names() {
    local long_name long_path name label
    label=$'a name\nwith % and \t tab|caf\xc3\xa9|\xff\xfe not UTF-8|%41|-x|~|a*b?|\\|"quoted"|\x01\x7f'
    cluster 2
    random 1000 >f
    long_name=$(printf '%0255d' 7)
    long_path=$(for _ in $(seq 16); do printf '/%0255d' 7; done)
    IFS='|' read -r -d '' -a list <<<"$label|$long_name" || true
    list[-1]=${list[-1]%$'\n'}
    for name in "${list[@]}"; do
        random 500 >f
        dfs -q -u "/n/$name" f
        same "/n/$name" f
        dfs --stat "/n/$name" | grep >/dev/null -x "sha256  $(sha <f)"
    done
    [ "$(dfs --ls /n | wc -l)" = "${#list[@]}" ]
    [ "$(dfs -v /n | wc -l)" = $((${#list[@]} + 2)) ]
    dfs -q -u "$long_path" f
    same "$long_path" f
    dfs --mkdir "/caf"$'\xc3\xa9'"/%2f"
    dfs --ls "/caf"$'\xc3\xa9' | grep >/dev/null '%252f/$'
    fails 6 -u "/n/${long_name}8" f
    fails 6 -u "$(printf '/%0255d' {1..15})/a/$(printf %0254d 7)" f
    fails 6 -u "$long_path/x" f
    for name in '' /.. /../x /n/../x /n/. . .. ./x /n/./y; do
        fails 6 -u "$name" f
        fails 6 -d "$name" got
        fails 6 --stat "$name"
        fails 6 --rm "$name"
        fails 6 --mkdir "$name"
        fails 6 --ls "$name"
    done
    [ "$(dfs --ls /n | wc -l)" = "${#list[@]}" ]
    for name in "${list[@]}"; do dfs --rm "/n/$name"; done
    dfs --rm /n
    wait_for state healthy
}

# folders: made, listed, removed; what is refused, with its exit code
test_folders() {
    cluster 2
    random 100 >f
    dfs --mkdir /d/e/f /g
    fails 3 --mkdir /d/e
    dfs -q -u /d/e/x f
    dfs -q -u d/e/y f
    dfs -q -u /up/ f
    same /up/f f
    dfs --ls /d/e >ls.out
    [ "$(awk '{print $NF}' ls.out | tr '\n' ' ')" = "f/ x y " ]
    dfs --ls | grep >/dev/null ' g/$'
    dfs -v | grep >/dev/null 'e/$'
    mkdir into
    dfs -q -d /d/e/x into
    cmp f into/x
    fails 8 --rm /d
    fails 3 --mkdir /d/e/x
    fails 9 -u /d f
    fails 9 -u /d/e/x/z f
    fails 9 -d /d -
    fails 9 -d /d f
    fails 9 -u /d/e/x . --dry-run
    fails 2 -d /none got
    fails 2 --stat /none
    fails 2 --ls /none
    fails 2 --rm /none
    fails 2 --rm /d/none/x
    fails 2 -u /z nothing-here
    dfs --rm /d/e/x /d/e/y /d/e/f /d/e /d /g
    fails 2 --stat /d
    [ "$(dfs --ls / | wc -l)" = 1 ]
    [ ! -e got ]
}

# --mv: files and trees, over a file, into a directory, what is refused; a reader sees the old or the new one
test_moves() {
    local id to
    need jq python3
    cluster 3
    random 5000000 >f
    random 300 >g
    dfs -q -u /a/b/f f
    dfs -q -u /a/g g
    id=$(dfs --stat -j /a/b/f | jq .id)
    dfs --mv /a/b/f /a/b/a-longer-name-than-before
    same /a/b/a-longer-name-than-before f
    fails 2 --stat /a/b/f
    dfs --mv /a/b/a-longer-name-than-before /a/b/f
    [ "$(dfs --stat -j /a/b/f | jq .id)" = "$id" ]
    dfs --mv /a/g /a/b/f # over a file
    same /a/b/f g
    fails 2 --stat /a/g
    dfs --mv /a/b /x/y/z # a tree, to where folders are missing
    same /x/y/z/f g
    [ "$(dfs --ls /a | wc -l)" = 0 ]
    dfs --mv /x/y/z /a # into a directory that is there
    same /a/z/f g
    dfs --mv /a/z/f /new/
    same /new/f g
    dfs --mkdir /full/sub /other/sub
    fails 3 --mv /full/sub /other
    fails 9 --mv /full /new/f
    fails 2 --mv /none /x
    for to in / /a /a/z /a/z/b; do fails '3|6' --mv /a "$to"; done
    fails 6 --mv / /x
    fails 6 --mv /new/f /../x
    fails 9 --mv /full /new/f/x
    fails 64 --mv /full
    dfs --mv -j /new/f "/new/with space" | jq -e '.[0].path == "/new/with space" and .[0].result == "ok"'
    wait_for state healthy
    [ "$(for n in n1 n2 n3; do digest "${ADDR[$n]}" | awk '{print $NF}'; done | sort -u | wc -l)" = 1 ]
    crash m n1 n2 n3 # and again from the logs
    for n in n1 n2 n3; do node "$n"; done
    master m "${DFS_MASTER}"
    settled 3
    same "/new/with space" g
    fails 2 --stat /new/f
}

# every exit code of the table that a user can meet
test_exit_codes() {
    local pids
    fast
    cluster 3
    random 100000 >f
    dfs --version | grep >/dev/null '^dfs [0-9]'
    dfs --help all | grep >/dev/null 'Exit codes'
    dfs -q -u /f f
    fails 64 --no-such-option
    fails 64 -u /f
    fails 64 --stat
    fails 64 --ls --stat /f
    fails 64 --ls --ping 1s
    fails 64 --chunk-size 1 -u /f f
    fails 64 node
    fails 64 node x --ping 10m1
    fails 64 master --ping 1s --dead-after 1s
    fails 1 -m 127.0.0.1:1 --status
    fails 1 -m nobody.invalid --status
    fails 2 --stat /none
    fails 2 -d /f no/such/folder/f
    DFS_FAULT=write:1 fails 5 -d /f got
    fails 10 -d /f /dev/full
    fails 6 --stat /../f
    (umask 077 && random 32 | od -An -tx1 | tr -d ' \n' >other.key)
    fails 7 -k other.key --status
    fails 6 --rm /
    dfs --mkdir /d/e
    fails 8 --rm /d
    fails 3 --mkdir /d/e
    dfs --rm /d/e /d
    fails 9 --ls /f/x
    pids=("${PID[n1]}" "${PID[n2]}" "${PID[n3]}")
    kill -STOP "${pids[@]}" # the change is on its way, and nobody will ever answer
    fails 12 --mkdir /unknown
    kill -CONT "${pids[@]}"
    wait_for state healthy
    crash n2 n3
    wait_for state read-only
    status | grep >/dev/null '^why .*n[23]'
    fails 13 --mkdir /x
    same /f f
    crash n1
    wait_for not dfs -q -d /f got
    fails 4 -d /f got
    [ ! -e got ]
}

# the answers in JSON have the fields that scripts rely on
test_json() {
    need jq
    cluster 3
    random 5000000 >f
    dfs -q -u /d/f f
    dfs -q -u $'/d/\xff' f
    wait_for state healthy
    wait_for counted 2
    all_said() { status -j | jq -e 'all(.nodes[]; .files == 2 and .chunks == 2 and .bytes == 5000000)'; }
    wait_for all_said # with their pings
    status --json | jq -e '.state == "healthy" and .epoch >= 1 and .seq >= 1 and (.master | test(":[0-9]+$")) and
        .copies_missing == 0 and .files == 2 and (.nodes | length) == 3 and all(.nodes[];
        (.name | test("^n[123]$")) and (.id | test("^[0-9a-f]{16}$")) and (.address | test(":[0-9]+$")) and
        .state == "up" and .files == 2 and .chunks == 2 and .bytes == 5000000)'
    dfs --nodes -j | jq -e '.nodes | length == 3'
    dfs --stat /d/f -j | jq -e --arg sha "$(sha <f)" '.path == "/d/f" and .kind == "file" and .size == 5000000 and
        .sha256 == $sha and .mtime > 1e9 and (.chunks | length) == 2 and .chunks[0].size == 4194304 and
        all(.chunks[]; (.sha256 | length) == 64 and (.nodes | sort) == ["n1", "n2", "n3"])'
    dfs --stat /d -j | jq -e '.kind == "directory" and .path == "/d"'
    dfs --ls /d -j | jq -e 'length == 2 and any(.[]; .name == "f" and .kind == "file" and .size == 5000000 and
        .copies == 3 and (.sha256 | length) == 64 and .mtime > 1e9) and any(.[]; .name_escaped == "%FF")'
    dfs -v -j | jq -e '.path == "/" and (.entries | length) == 3 and .entries[0].path == "/d" and
        any(.entries[]; .path == "/d/f" and .kind == "file" and .size == 5000000 and .copies == 3)'
    dfs --mkdir -j /a /b | jq -e 'length == 2 and all(.[]; .result == "ok")'
    (dfs --rm -j /a /none || true) | jq -e '.[0].result == "ok" and .[1].result == "notfound"'
    dfs -u -j /g f | jq -e --arg sha "$(sha <f)" '.size == 5000000 and .sha256 == $sha'
    dfs -d -j /g g | jq -e --arg sha "$(sha <f)" '.size == 5000000 and .sha256 == $sha and .path == "/g"'
}

# Uploads and downloads one after another until the file `halt` is there; any failure ends the loop and is in `traffic`.
traffic() {
    local i=0
    until [ -e halt ]; do
        i=$((i + 1))
        random 300000 >"t.$1"
        if ! { dfs -q -u "/t/$1.$i" "t.$1" && dfs -q -d "/t/$1.$i" - | cmp - "t.$1" &&
            dfs -q -d /big - | cmp - big; }; then
            echo "worker $1, file $i" >>traffic.failed
            return
        fi
        echo "$i" >"traffic.$1"
        nap 50
    done
}
watch_states() { until [ -e halt ]; do status | grep -E '^(state|why) '; nap 50; done >states; }
more_traffic() { # every worker has moved on
    local before w
    before=$(cat traffic.[123])
    for w in 1 2 3; do wait_for moved "$w" "$(sed -n "${w}p" <<<"$before")"; done
}
moved() { [ "$(cat "traffic.$1")" -gt $(($2 + 1)) ] || [ -e traffic.failed ]; }

# a node is killed under load: noticed in time, no request fails, it comes back, a fourth joins
test_node_killed() {
    local begun ms w jobs=()
    fast
    cluster 3
    random 9000000 >big
    dfs -q -u /big big
    for w in 1 2 3; do echo 0 >"traffic.$w"; done
    for w in 1 2 3; do traffic "$w" & jobs+=($!); done
    watch_states &
    jobs+=($!)
    more_traffic
    crash n1
    begun=$(date +%s%3N)
    wait_for node_is n1 down
    ms=$(($(date +%s%3N) - begun))
    echo "noticed after $ms ms"
    [ "$ms" -lt $((slow * 5000)) ] # a second, and what it takes to ask
    wait_for state degraded
    status | grep >/dev/null '^why .*n1 is down'
    more_traffic
    random 100000000 >new
    dfs -q -u /new new
    held_by /new n2 n3 || wait_for held_by /new n2 n3
    [ ! -e traffic.failed ]
    node n1
    more_traffic
    wait_for node_is n1 up
    wait_for held_by /new n1 n2 n3
    more_traffic
    touch halt
    wait "${jobs[@]}"
    not cat traffic.failed
    wait_for state healthy
    rm halt
    awk '$1 == "state" {print $2}' states | uniq | tr '\n' ' ' >order
    cat order
    grep -qE 'healthy .*degraded .*healing ' order
    grep -qE '^why +[0-9]+ copies are missing, [0-9.]+ [KMGT]?i?B' states
    kill -STOP "${PID[n2]}" # hangs, but does not die
    wait_for node_is n2 down
    dfs -q -u /hung big
    kill -CONT "${PID[n2]}"
    wait_for held_by /hung n1 n2 n3
    wait_for state healthy
    node n4
    wait_for node_is n4 up
    wait_for held_by /new n4
    wait_for held_by /t/1.1 n1 n2 n3 n4
    wait_for state healthy
    wait_for roster_is 4
    for w in 1 2 3; do # one after another, down to the last
        crash "n$w"
        wait_for node_is "n$w" down
        wait_for roster_is $((4 - w))
    done
    same /new new # from the fourth alone
    same /big big
    dfs -q -u /last big
    same /last big
}

# One round: many uploads at once, kill -9 of some servers at a random moment, all start again; then every upload that
# was acknowledged is there and whole, every other is whole or absent. ROUND is its number; `revive` starts servers.
kill_round() { # COUNT VICTIM...
    local count=$1 f code i jobs=() downs=() files=() absent=0 late=0
    declare -A got=() hash=()
    rm -rf up down barrier
    mkdir up down
    mkfifo barrier
    random $((count * 1500)) | split -b 3000 -a 3 -d - up/small
    random $((count * 35000)) | split -b 70000 -a 3 -d - up/middle
    random 5000000 >up/large
    for f in up/*; do
        "$DFS" -q -u "/$ROUND/${f#up/}" "$f" <barrier 2>>client.err 7<&- &
        jobs+=($!) files+=("${f#up/}")
    done
    exec 8>barrier # now they all go: none can open it for reading before
    pause $((500 * slow))
    fell "${@:2}"
    pause 300
    revive "${@:2}"
    for i in "${!jobs[@]}"; do
        code=0
        wait "${jobs[i]}" || code=$?
        got[${files[i]}]=$code
    done
    for f in "${files[@]}"; do
        (code=0; dfs -q -d "/$ROUND/$f" "down/$f" || code=$?; echo "$code" >"down/$f.code") &
        downs+=($!)
    done
    wait "${downs[@]}"
    while read -r code f; do hash[$f]=$code; done < <(sha256sum up/* down/*)
    for f in "${files[@]}"; do
        code=$(<"down/$f.code")
        if [ "$code" = 2 ] && [ "${got[$f]}" != 0 ]; then absent=$((absent + 1)); continue; fi
        if [[ $code =~ ^(1|4|13)$ ]]; then # nobody could tell just then; when all is well somebody must
            wait_for state healthy ||
                die "/$ROUND/$f: upload ended with ${got[$f]}, download with $code; $(status | grep ^why)"
            late=$((late + 1)) code=0
            dfs -q -d "/$ROUND/$f" "down/$f" || code=$?
            hash[down/$f]=$(sha <"down/$f")
        fi
        [ "$code" = 0 ] || die "round $ROUND: /$ROUND/$f: upload ended with ${got[$f]}, download with $code"
        [ "${hash[up/$f]}" = "${hash[down/$f]}" ] || die "round $ROUND: /$ROUND/$f differs"
        echo "${hash[up/$f]} /$ROUND/$f" >>kept
    done
    code=$(printf '%s\n' "${got[@]}" | sort -n | uniq -c | xargs)
    echo "round $ROUND: exit codes of uploads: $code; $absent absent, $late late"
}
all_kept() { # every file that any round saw whole still is there, by name and hash
    local round
    cut -d/ -f2 kept | sort -un | while read -r round; do
        dfs --ls -j "/$round" | jq -r --arg r "$round" '.[] | "\(.sha256) /\($r)/\(.name)"'
    done >now
    sort -o now now
    sort kept | comm -23 - now >lost
    not grep . lost
}
kill_rounds() { # ROUNDS VICTIM...
    local count=60
    [ -z "$long" ] || count=200
    [ "$slow" = 1 ] || count=40
    : >kept
    for ROUND in $(seq "$1"); do kill_round "$count" "${@:2}"; done
    [ -s kept ]
    wait_for state healthy
    all_kept
}

# the master is killed in the middle of many uploads, another one starts elsewhere: nothing acknowledged is lost
test_master_killed() {
    need jq
    local other here_now
    fast
    cluster 0
    other=127.0.0.2:${DFS_MASTER##*:}
    here_now=$DFS_MASTER
    export DFS_MASTER=$DFS_MASTER,$other
    for n in n1 n2 n3; do node "$n"; done
    settled 3
    revive() {
        if [ "$here_now" = "$other" ]; then here_now=${DFS_MASTER%,*}; else here_now=$other; fi
        master m "$here_now"
    }
    kill_rounds "$(rounds 4 2)" m
}

# everything is killed at once in the middle of many uploads, comes back in random order: nothing acknowledged is lost
test_all_killed() {
    need jq
    fast
    cluster 3
    revive() {
        local who
        shuffle "$@"
        for who in "${shuffled[@]}"; do
            if [ "$who" = m ]; then master m "$DFS_MASTER"; else node "$who"; fi
        done
    }
    kill_rounds "$(rounds 4 2)" m n1 n2 n3
}

log_says() { grep -q "$2" "$1.err"; } # SERVER TEXT

# keys: wrong, none, readable by others; the lines that master --init prints, pasted
test_keys() {
    local join
    cluster 2
    random 1000 >f
    dfs -q -u /f f
    [ "$(stat -c %a key)" = 600 ]
    [ "$(wc -c <key)" = 65 ]
    [ "$(grep -c "$(cat key)" m.err)" = 1 ] # shown once
    not grep "$(cat key)" m.out n1.err n2.err
    not grep -a "$(cat key)" <(tr '\0' '\n' <"/proc/${PID[m]}/cmdline")
    (umask 077 && random 32 | od -An -tx1 | tr -d ' \n' >wrong)
    fails 7 -k wrong --stat /f
    fails 7 -k wrong --mkdir /d
    fails 7 --insecure --stat /f
    wait_for log_says m '^[^ ]* master: refused 127.0.0.1:[0-9]*: '
    (unset DFS_KEY_FILE && fails 7 --stat /f)
    (unset DFS_KEY_FILE && fails 64 node blank -l 127.0.0.1:0)
    cp key open && chmod 640 open
    fails 64 -k open --status
    head -c 40 key >short && chmod 600 short
    fails 64 -k short --status
    fails 64 -k nothing-here --status
    start wrong node "$PWD/wrong.dir" -k wrong -l 127.0.0.1:0
    wait_for log_says wrong 'no master at .*key'
    start plain node "$PWD/plain.dir" --insecure -l 127.0.0.1:0
    wait_for log_says plain 'no master at '
    [ "$(dfs --nodes | wc -l)" = 3 ]
    stop wrong plain m
    not grep -r . wrong.dir/node.json plain.dir/node.json
    fails 64 master --init -k open -l 127.0.0.1:0
    unset DFS_KEY_FILE
    mkdir home home/.config
    HOME=$PWD/home start m2 master --init -l 127.0.0.1:0
    join=$(sed -n 's/^  //p' m2.err)
    grep -q 'umask 077' <<<"$join"
    mkdir paste paste/bin paste/home
    ln -s "$DFS" paste/bin/dfs
    # as it is, but for the folder and the ports, which have to be free ones
    join=$(sed "s|/srv/dfs|$PWD/paste/n -l 127.0.0.1:0|; s|-m [^ ]*|-m ${ADDR[m2]}|; s|^dfs|exec dfs|" <<<"$join")
    (cd paste && HOME=$PWD/home PATH=$PWD/bin:$PATH exec bash -c "$join") >paste.out 2>paste.err &
    PID[paste]=$!
    [ "$(HOME=$PWD/home timeout 60 "$DFS" -m "${ADDR[m2]}" --version | wc -l)" = 1 ]
    joined() { HOME=$PWD/paste/home "$DFS" -m "${ADDR[m2]}" --nodes | grep >/dev/null ' up '; }
    wait_for joined
    cmp home/.config/dfs/key paste/home/.config/dfs/key
    [ "$(stat -c %a paste/home/.config/dfs/key)" = 600 ]
}

# what a master sent on a connection that it gave up, and a node in a session that is over, is refused when it is late
test_late() {
    need python3
    SLOW=$slow
    export DFS SLOW
    env -u DFS_KEY_FILE python3 "$here/.ci/wire.py" late "$PWD/n"
    cluster 2
    python3 "$here/.ci/wire.py" late_node "${ADDR[m]}"
    wait_for is_up 2
}

# the wire under attack, on master and node: refused, logged, nothing changed, no memory or descriptor taken
test_wire() {
    local attack who before rss open
    need python3
    export DFS_DEAD_AFTER=30s # so that nothing is recorded but by the attacks
    cluster 3
    random 100000 >f
    dfs -q -u /f f
    wait_for state healthy
    SLOW=$slow NOISE_SECONDS=$(rounds 5 5)
    export DFS SLOW NOISE_SECONDS
    before=$(digest "${ADDR[m]}")
    declare -A rss=([m]=$(rss_kb "${PID[m]}") [n1]=$(rss_kb "${PID[n1]}"))
    declare -A open=([m]=$(files_open "${PID[m]}") [n1]=$(files_open "${PID[n1]}"))
    for attack in $(python3 "$here/.ci/wire.py" attacks); do
        for who in m n1; do
            if [ "$who$attack" = n1replay ] || [ "$who$attack" = n1changed ]; then continue; fi
            if [ "$slow" != 1 ] && [ "$attack" = crowd ]; then continue; fi
            python3 "$here/.ci/wire.py" "$attack" "${ADDR[$who]}" "$seed"
            [ "$attack" != claims ] || continue
            [ "$attack" != replay ] || before=$(digest "${ADDR[m]}") # it made a directory and removed it
            [ "$attack" = noise ] || [ "$(digest "${ADDR[m]}")" = "$before" ] || die "$attack on $who changed something"
        done
    done
    settled 3
    same /f f
    fails 2 --stat /smuggled
    grep -q 'a line with a wrong MAC' m.err
    grep -q 'wrong key' m.err
    grep -q 'a line of more than' m.err
    for who in m n1; do
        memory_is_back() { [ "$(rss_kb "${PID[$who]}")" -lt $((${rss[$who]} + 4096)) ]; }
        files_are_back() { [ "$(files_open "${PID[$who]}")" -le $((${open[$who]} + 8)) ]; }
        [ "$slow" != 1 ] || wait_for memory_is_back
        wait_for files_are_back
    done
}

# one flipped byte in a node's log, while it runs and while it is stopped: downloads are right, the node says so
test_flipped_byte() {
    local i who
    fast
    cluster 3
    for i in 1 2 3; do random $((i * 2000000)) >"f$i"; dfs -q -u "/f$i" "f$i"; done
    random 5000 >small
    dfs -q -u /small small
    wait_for state healthy
    flip() { # NODE FILE: changes a byte of FILE's contents in NODE's log
        python3 - "$1/log" "$2" <<'PY'
import os, sys
want = open(sys.argv[2], "rb").read()
piece = want[1000:1100]
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        with open(os.path.join(folder, name), "r+b") as log:
            at = log.read().find(piece)
            if at >= 0:
                log.seek(at + 50)
                log.write(bytes([piece[50] ^ 1]))
                sys.exit()
sys.exit("the contents are nowhere in " + sys.argv[1])
PY
    }
    found() { # NODE PATH FILE: downloads until it has said that it was damaged
        same "$2" "$3"
        log_says "$1" DAMAGED
    }
    need python3
    for who in n1 n2; do flip "$who" f1; done # two of three
    for who in n1 n2; do wait_for found "$who" /f1 f1; done
    wait_for log_says m 'was damaged'
    wait_for held_by /f1 n1 n2 n3
    wait_for state healthy
    for who in n1 n3; do
        flip "$who" small
        same /small small
        python3 "$here/.ci/wire.py" verify "${ADDR[$who]}" "$(sha <small)" # unless the download has found it
        [ "$(grep -c DAMAGED "$who.err")" -ge 1 ]
        wait_for held_by /small n1 n2 n3
    done
    grep -q "DAMAGED chunk $(sha <small)" n3.err
    stop n1
    : >n1.err
    flip n1 f2
    node n1
    wait_for found n1 /f2 f2
    wait_for held_by /f2 n1 n2 n3
    wait_for state healthy
    crash n2
    wait_for roster_is 2
    crash n3
    wait_for roster_is 1
    for i in 1 2 3; do same "/f$i" "f$i"; done # all from n1, which has good copies again
    same /small small
    flip n1 f3
    fails '11|4' -d /f3 got
    [ ! -e got ]
    node n2
    wait_for same /f3 f3
    wait_for held_by /f3 n1 n2
}

# a directory serves one node, an id is up once, a node of another cluster is refused
test_identity() {
    local nodes
    fast
    cluster 2
    random 1000 >f
    dfs -q -u /f f
    fails 3 node "$PWD/n1" -l 127.0.0.1:0
    stop n2
    cp -r n2 copy
    node n2
    settled 2
    start copy node "$PWD/copy" -l 127.0.0.1:0
    wait_for log_says copy 'a node with this id is up'
    settled 2
    same /f f
    stop copy n1
    start m2 master --init -l 127.0.0.1:0
    start n1 node "$PWD/n1" -m "${ADDR[m2]}" -l 127.0.0.1:0
    wait_for log_says n1 'belongs to cluster'
    nodes=$(dfs -m "${ADDR[m2]}" --nodes | wc -l)
    [ "$nodes" = 1 ]
    stop n1 m2
    node n1
    settled 2
    start m3 master -l 127.0.0.1:0 # without --init it makes no cluster of blank nodes
    start blank node "$PWD/blank" -m "${ADDR[m3]}" -l 127.0.0.1:0
    wait_for log_says blank 'waits for a node that knows the cluster'
    [ "$(dfs -m "${ADDR[m3]}" --status | awk '$1 == "state" {print $2}')" = read-only ]
    [ ! -e blank/node.json ]
    stop blank m3
    printf '{' >blank/node.json
    fails 11 node "$PWD/blank" -l 127.0.0.1:0
    same /f f
}

# two writers of one path, and readers that always see one whole version
test_same_path() {
    local i jobs=() count
    cluster 3
    count=$(rounds 25 5)
    random 3000001 >a
    random 9000000 >b
    dfs -q -u /same a
    for i in a b; do
        for ((n = 0; n < count; n++)); do dfs -q -u /same "$i" || { echo "upload of $i" >>wrong; break; }; done &
        jobs+=($!)
    done
    for i in 1 2; do
        for ((n = 0; n < count * 3; n++)); do
            if [ $((n % 3)) = 0 ]; then dfs -q -d /same - >"got$i"; else dfs -q -d /same "got$i"; fi ||
                { echo "download $i" >>wrong; break; }
            cmp -s "got$i" a || cmp -s "got$i" b || { echo "a mixture" >>wrong; break; }
        done &
        jobs+=($!)
    done
    wait "${jobs[@]}"
    not cat wrong
    wait_for state healthy
}

# ---- Several masters ----

masters() { # MASTERS NODES: a new cluster; m1 makes it, the others of m2, m3 stand by; nodes n1...
    local n port
    export DFS_KEY_FILE=$PWD/key
    master m1 "$ip:0" --init
    port=${ADDR[m1]##*:}
    export DFS_MASTER=${ADDR[m1]}
    for n in $(seq 2 "$1"); do
        master "m$n" "127.0.0.$n:$port"
        DFS_MASTER+=,${ADDR[m$n]}
    done
    for n in $(seq "$2"); do node "n$n"; done
    settled "$2"
}
again() { # NAME...: starts servers again where they were
    local who
    for who; do
        case $who in
        m*) master "$who" "${ADDR[$who]}" ;;
        *) start "$who" node "$PWD/$who" -n "$who" -l "${ADDR[$who]}" ;;
        esac
    done
}
of_master() { dfs -m "${ADDR[$1]}" --status || true; } # NAME
says_current() { of_master "$1" | grep >/dev/null '^reads *current'; }
stands_by() { # NAME: it does not reign, and says why; it may say that it waits only while its nodes are on their way
    of_master "$1" | grep >/dev/null '^why .*standing by: n[1-9].* follow another master'
}
one_reigns() { # and all others that run say that they stand by
    local who reign=0
    for who in "${!ADDR[@]}"; do
        if [[ $who != m* ]] || [ -z "${PID[$who]:-}" ]; then continue; fi
        if says_current "$who"; then reign=$((reign + 1)); else stands_by "$who" || return 1; fi
    done
    [ "$reign" = 1 ]
}
reigning() { # puts the name of the master that reigns into `king`
    local who
    find_king() {
        for who in "${!ADDR[@]}"; do
            [[ $who = m* ]] && [ -n "${PID[$who]:-}" ] && says_current "$who" && king=$who && return
        done
        return 1
    }
    wait_for find_king
}
ms_now() { date +%s%3N; }
took() { # MILLISECONDS: notes how long a take-over took
    echo "$1" >>took
    [ "$1" -lt $((slow * 15000)) ] || die "a take-over took $1 ms"
}
took_all() { # KIND: median and worst
    sort -n took | awk -v kind="$1" '{t[NR] = $1}
        END {print kind ": ms to a write acknowledged (" NR " times): median", t[int((NR + 1) / 2)], "worst", t[NR]}'
}
agreed() { # all servers hold the same records, and those who serve them the same tree
    local who one='' other
    for who in "${!PID[@]}"; do
        [[ $who = n* ]] || continue
        other=$(digest "${ADDR[$who]}") || return 1
        [ -z "$one" ] || [ "$one" = "$other" ] || return 1
        one=$other
    done
    [ -n "$one" ]
}
writer() { # WORKER: small files until `halt` is there; kept.WORKER has those acknowledged, write.failed the others
    local i=0 code
    until [ -e halt ]; do
        i=$((i + 1)) code=0
        random 2000 >"w.$1"
        dfs -q -u "/w/$1.$i" "w.$1" || code=$?
        if [ "$code" != 0 ]; then echo "worker $1, file $i: exit code $code" >>write.failed; continue; fi
        echo "$(sha <"w.$1") $1.$i" >>"kept.$1"
        nap 30
    done
}
writers_kept() { # all that the writers had acknowledged is there
    cat kept.* | sort >wanted
    dfs --ls -j /w | jq -r '.[] | "\(.sha256) \(.name)"' | sort | comm -23 wanted - >lost
    echo "$(wc -l <wanted) files were acknowledged"
    not grep . lost
    shuf -n 20 wanted >some
    while read -r hash file; do [ "$(dfs -q -d "/w/$file" - | sha)" = "$hash" ] || die "/w/$file differs"; done <some
}

# the reigning master is killed under load, again and again: a standby takes over, no upload fails, nothing is lost
test_standby() {
    local round king='' old begun w jobs=()
    need jq python3
    fast
    masters 3 3
    random 1000 >small
    for w in 1 2 3; do writer "$w" & jobs+=($!); done
    for round in $(seq "$(rounds 6 2)"); do
        reigning
        old=$king
        pause 500
        begun=$(ms_now)
        crash "$old"
        dfs -q -u "/round/$round" small
        took $(($(ms_now) - begun))
        reigning
        [ "$king" != "$old" ]
        grep -q '^[^ ]* master: reigning: epoch ' "$king.err"
        again "$old"
        wait_for one_reigns
    done
    touch halt
    wait "${jobs[@]}"
    not cat write.failed
    settled 3
    took_all "kill -9 of the master"
    writers_kept
    wait_for agreed
}

ambush() { # MASTER ROUND SHA256: wire.py lies in wait, from where clients are now, until the file `go` is there
    rm -f ambush go
    "${from[@]}" python3 "$here/.ci/wire.py" ambush "${ADDR[$1]}" "$2" "$3" go >ambush 2>ambush.err &
    ambush=$!
    wait_for grep -q ready ambush
}
ambush_end() { # it has heard nothing that was not true
    wait "$ambush" || [ "$(grep -c ' reigning: ' "$old.err")" -gt "$reigns" ] || # it may, if the new one is gone
        { cat ambush ambush.err >&2; die "$old said what was not true"; }
    tail -n 1 ambush
}
depose() { # stop|cut ROUND: the master hangs, or is cut off (with the host c1); a standby takes over, it steps down
    local old begun ambush reigns ends hash rest
    RANDOM=$(((seed + $2) % 32768))
    reigning
    old=$king
    echo "seed $((seed + $2)): $old"
    echo "old $2" >old
    echo "new $2" >new
    dfs -q -u "/changed/$2" old
    dfs -q -u "/removed/$2" old
    hash=$(sha <old)
    [ "$1" = stop ] || at_host c1
    ambush "$old" "$2" "$hash"
    reigns=$(grep -c ' reigning: ' "$old.err") ends=$(grep -cE 'epoch [0-9]+ ends: ' "$old.err" || true)
    pause 1000
    begun=$(ms_now)
    if [ "$1" = stop ]; then
        kill -STOP "${PID[$old]}"
    else
        at_host c2
        others "$old" c1
        sever +1 both "$old" c1 -- "${rest[@]}"
    fi
    dfs -q -u "/changed/$2" new
    took $(($(ms_now) - begun))
    dfs --rm "/removed/$2"
    dfs --mkdir "/made/$2"
    touch go # if it is stopped, the requests are waiting for it before it wakes up
    wait_for grep -q sent ambush
    if [ "$1" = stop ]; then
        pause 1000
        kill -CONT "${PID[$old]}"
        ambush_end
    else
        ambush_end
        at_host c1
        ambush "$old" "$2" "$hash"
        pause 1000
        heal
        pause 200
        touch go
        ambush_end
    fi
    wait_for one_reigns
    [ "$(grep -cE 'epoch [0-9]+ ends: ' "$old.err")" -gt "$ends" ]
    same "/changed/$2" new
    fails 2 --stat "/removed/$2"
    dfs --stat "/made/$2" >/dev/null
}
depose_all() { # stop|cut: many times, while clients write
    local round count=3 king='' w jobs=()
    need jq python3
    [ "$slow" = 1 ] || count=2
    [ -z "$long" ] || count=20
    export SLOW=$slow
    for w in 1 2; do writer "$w" & jobs+=($!); done
    for round in $(seq "$count"); do depose "$1" "$round"; done
    touch halt
    wait "${jobs[@]}"
    not cat write.failed
    settled 3
    took_all "the master: $1"
    writers_kept
    wait_for agreed
}

# the reigning master hangs, a standby takes over, the old one goes on: it acknowledges nothing, knows nothing better
test_paused() {
    fast
    masters 2 3
    depose_all stop
}

one_node() { while [[ $who = m* ]]; do shuffle "${servers[@]}"; who=${shuffled[0]}; done; }
on_purpose() { # KIND...: dfs --fault, on the node `who`, for a while
    wait_for dfs --fault "${ADDR[$who]}" "$@" # once it has heard from a master that it may
    pause 3000
    wait_for dfs --fault "${ADDR[$who]}" none
}
fault() { # SERVER...: one random fault on those in `servers`, and its end; kills none of these; says it in `faults`
    local who n list=() victims=()
    shuffle "${servers[@]}"
    for who in "${shuffled[@]}"; do [[ " $* " == *" $who "* ]] || victims+=("$who"); done
    who=${shuffled[0]}
    case $((RANDOM % 12)) in
    [0-2]) # one is killed
        echo "kill ${victims[0]}"
        crash "${victims[0]}"
        pause 1500
        again "${victims[0]}"
        ;;
    [3-6]) # one hangs
        echo "pause $who"
        kill -STOP "${PID[$who]}"
        pause 3000
        kill -CONT "${PID[$who]}"
        ;;
    7) # all masters are killed
        for who in "${victims[@]}"; do [[ $who != m* ]] || list+=("$who"); done
        echo "kill ${list[*]}"
        crash "${list[@]}"
        pause 1000
        again "${list[@]}"
        ;;
    8) # two, of any kind
        echo "kill ${victims[*]:0:2}"
        crash "${victims[@]:0:2}"
        pause 1000
        again "${victims[@]:0:2}"
        ;;
    9) # one hangs while another is killed
        [ "$who" != "${victims[0]}" ] || who=${shuffled[1]}
        echo "pause $who, kill ${victims[0]}"
        kill -STOP "${PID[$who]}"
        pause 1000
        crash "${victims[0]}"
        pause 1000
        kill -CONT "${PID[$who]}"
        again "${victims[0]}"
        ;;
    10) # a node's disk is slow
        one_node
        echo "slow $who"
        on_purpose slow 400
        ;;
    11) # a node hears nothing from one master, which hears from it
        one_node
        n=m$((RANDOM % 2 + 1))
        echo "$who hears nothing from $n"
        on_purpose drop-from "${ADDR[$n]}"
        ;;
    esac >>faults
}

settled_down() { # nobody holds more than before: descriptors, threads, memory
    local who files threads kb count spare=16 # idle connections are kept for a minute
    [ -z "$long" ] || spare=2
    count=$(wc -l <history) # operations; a master keeps 4 MiB of records, and a node knows each chunk
    for who in "${servers[@]}"; do
        read -r files threads kb <<<"${before[$who]}"
        [ "$(not_log "${PID[$who]}")" -le $((files + spare)) ] || return 1
        [ "$(count_threads "${PID[$who]}")" -le $((threads + spare)) ] || return 1
        [ "$slow" != 1 ] || [ "$(rss_kb "${PID[$who]}")" -le $((kb + 4096 + count / 6)) ] || return 1
    done
}
not_log() { find "/proc/$1/fd" -mindepth 1 ! -lname '*/log/*' 2>/dev/null | wc -l; } # each start begins a segment
footprint() { echo "$(not_log "${PID[$1]}") $(count_threads "${PID[$1]}") $(rss_kb "${PID[$1]}")"; } # SERVER

# clients write, read, rename and delete a few paths while servers are killed and hang; what they saw is linearizable
test_linear() {
    local until begun clients who code servers=(m1 m2 n1 n2 n3) seconds=20
    local -A before=()
    need python3
    python3 "$here/.ci/linear.py" selftest "$seed"
    [ -z "$long" ] || seconds=180
    fast
    export DFS DFS_ALLOW_FAULTS=1 DFS_GRACE=1s
    masters 2 3
    python3 "$here/.ci/linear.py" run 8 6 "$seed" warm halt >clients 2>&1 &
    clients=$!
    enough() { [ "$(grep -c . warm)" -gt 200 ]; }
    wait_for enough
    touch halt
    wait "$clients" || { cat clients; die "a client got an answer that it should not"; }
    rm halt
    settled 3
    LINEAR_WEB=${ADDR[n1]},${ADDR[n2]},${ADDR[n3]}
    export LINEAR_WEB # by HTTP nodes answer from their own records
    for who in "${servers[@]}"; do before[$who]=$(footprint "$who"); done
    python3 "$here/.ci/linear.py" run 8 6 "$seed" history halt >clients 2>&1 &
    clients=$!
    until=$((SECONDS + seconds))
    while [ "$SECONDS" -lt "$until" ]; do
        pause 1500
        if [ "$SECONDS" -lt $((until - seconds / 2)) ]; then fault; else fault m1 n1; fi # some grow old
    done
    begun=$(ms_now)
    wait_for dfs --mkdir /after
    begun=$(($(ms_now) - begun))
    echo "$(wc -l <faults) faults; it takes writes again $begun ms after the last"
    [ "$begun" -lt $((20000 * slow)) ]
    touch halt
    wait "$clients" || { cat clients faults; die "a client got an answer that it should not"; }
    cat clients
    python3 "$here/.ci/linear.py" check warm history
    settled 3
    wait_for one_reigns
    wait_for agreed
    for who in 0 1 2 3 4 5; do # each is there or not, and is not unavailable
        code=0
        dfs -q -d "/lin/$who" - >f || code=$?
        [ "$code" = 0 ] || [ "$code" = 2 ]
    done
    wait_for -t 90 settled_down || true
    for who in "${servers[@]}"; do
        echo "$who: descriptors, threads, KiB before: ${before[$who]}; after: $(footprint "$who")"
    done
    settled_down
}

# Hosts are network namespaces on one bridge, which is in a namespace too, so nothing else on this machine sees them.
# Each knows the others' hardware addresses by heart; a wrong one is a cut cable, in one direction.
declare -A HOST=()
hosts() { # NAME...: makes them; they can all reach each other
    local who i=0
    need ip nsenter
    [ "$(id -u)" = 0 ] || skip "network namespaces need root"
    net=dfs$$-$name HOST=()
    ip netns add "$net-bridge" 2>/dev/null || skip "no network namespaces here"
    ip -n "$net-bridge" link add bridge type bridge 2>/dev/null || skip "no bridges here"
    ip -n "$net-bridge" link set bridge up
    for who; do
        i=$((i + 1)) HOST[$who]=$i
        ip netns add "$net-$who"
        ip -n "$net-$who" link add eth0 address "02:00:00:00:00:$(printf %02x $i)" type veth \
            peer name "port$i" netns "$net-bridge"
        ip -n "$net-bridge" link set "port$i" master bridge up
        printf '%s\n' "addr add 10.77.0.$i/24 dev eth0" 'link set lo up' 'link set eth0 up' |
            ip -n "$net-$who" -batch -
    done
    heal
}
declare -A LOST=() # "FROM TO": how many cuts lose what is sent so
rewire() { # as LOST says, host by host in random order
    local who other wire
    shuffle "${!HOST[@]}"
    for who in "${shuffled[@]}"; do
        for other in "${!HOST[@]}"; do
            wire=00
            [ "${LOST["$who $other"]:-0}" = 0 ] || wire=99
            [ "$other" = "$who" ] || printf 'neigh replace 10.77.0.%d lladdr %s:%02x dev eth0 nud permanent\n' \
                "${HOST[$other]}" "02:00:00:00:$wire" "${HOST[$other]}"
        done | ip -n "$net-$who" -batch -
    done
}
heal() { # all cuts
    LOST=()
    rewire
}
sever() { # +1|-1 both|out|in HOST... -- HOST...: a cut more or less between these and those, or in one direction only
    local more=$1 way=$2 these=() this that
    shift 2
    while [ "$1" != -- ]; do these+=("$1"); shift; done
    shift
    for this in "${these[@]}"; do
        for that; do
            [ "$way" = in ] || LOST["$this $that"]=$((${LOST["$this $that"]:-0} + more))
            [ "$way" = out ] || LOST["$that $this"]=$((${LOST["$that $this"]:-0} + more))
        done
    done
    rewire
}
others() { # HOST...: puts all others into `rest`
    local who
    rest=()
    for who in "${!HOST[@]}"; do [[ " $* " == *" $who "* ]] || rest+=("$who"); done
}
hosts_end() { # PREFIX: removes the namespaces whose names begin so
    local who
    [ "$(id -u)" = 0 ] && command -v ip >/dev/null || return 0
    for who in $(ip netns list 2>/dev/null | awk -v p="$1" 'index($1, p) == 1 {print $1}'); do ip netns del "$who"; done
}
at_host() { from=(nsenter "--net=/run/netns/$net-$1"); } # clients run there from now on
now() { python3 -c 'import time; print(time.monotonic())'; }

host_cluster() { # MASTERS NODES HOST...: a new cluster; each server has a host, these are more; clients run on the last
    local n who list=()
    for n in $(seq "$1"); do list+=("m$n"); done
    for n in $(seq "$2"); do list+=("n$n"); done
    hosts "${list[@]}" "${@:3}"
    export DFS_KEY_FILE=$PWD/key DFS_MASTER=10.77.0.1
    for n in $(seq 2 "$1"); do DFS_MASTER+=,10.77.0.$n; done
    at_host "${!#}"
    for who in "${list[@]}"; do
        case $who in
        m1) master m1 10.77.0.1:3370 --init ;;
        m*) master "$who" "10.77.0.${HOST[$who]}:3370" ;;
        *) start "$who" node "$PWD/$who" -n "$who" -l "10.77.0.${HOST[$who]}:3371" ;;
        esac
    done
    settled "$2"
}
hosts_gone() { # the servers on hosts end, then their hosts
    stop "${!PID[@]}"
    hosts_end "$net-"
    net='' from=() HOST=()
}

# the reigning master is cut off with some clients: it acknowledges nothing, knows nothing better, before and after
test_cut_off() {
    fast
    host_cluster 2 3 c1 c2
    depose_all cut
    hosts_gone
}

# how long after a failure, by its kind, another master reigns and a write is acknowledged, with default flags
test_takeover() {
    local kind round king='' who node before begun write limit count=1 watch rest
    local kinds=('master killed' 'master hangs' 'master cut off' 'master and a node killed'
        'master killed, a node hangs' 'node killed' 'node hangs')
    [ -z "$long" ] || count=30
    random 1000 >small
    host_cluster 2 3 c
    reigns() { cat m?.err | grep -c ' reigning: epoch '; }
    more_reigns() { [ "$(reigns)" -gt "$before" ]; }
    for round in $(seq "$count"); do
        for kind in "${kinds[@]}"; do
            reigning
            shuffle n1 n2 n3
            node=${shuffled[0]} before=$(reigns) limit=15000
            pause 1500 # the failure comes at any moment between two pings
            begun=$(ms_now)
            case $kind in
            'master killed') crash "$king" ;;
            'master hangs') kill -STOP "${PID[$king]}" ;;
            'master cut off') others "$king"; sever +1 both "$king" -- "${rest[@]}" ;;
            'master and a node killed') crash "$king" "$node" ;;
            'master killed, a node hangs') kill -STOP "${PID[$node]}"; crash "$king" ;;
            'node killed') crash "$node"; limit=6000 ;;
            'node hangs') kill -STOP "${PID[$node]}"; limit=12000 ;;
            esac
            : >reigned
            if [[ $kind = master* ]]; then { wait_for more_reigns && ms_now >reigned; } & watch=$!; fi
            dfs -q -u "/$kind/$round" small
            write=$(($(ms_now) - begun))
            [[ $kind != master* ]] || wait "$watch"
            echo "$(($(cat reigned || true) - begun)) $write" >>"took.$kind"
            [ "$write" -lt $((limit * slow)) ] || die "$kind: $write ms until a write was acknowledged"
            heal
            for who in "$king" "$node"; do
                if [ -n "${PID[$who]:-}" ]; then kill -CONT "${PID[$who]}"; else again "$who"; fi
            done
            wait_for one_reigns
            settled 3
            wait_for roster_is 3
        done
    done
    echo "ms from the failure until            a master reigns    a write is acknowledged"
    echo "                             rounds  median   worst     median   worst"
    for kind in "${kinds[@]}"; do
        sort -n "took.$kind" | awk '{print $1}' >first
        awk '{print $2}' "took.$kind" | sort -n | paste first - | awk -v kind="$kind" '{a[NR] = $1; b[NR] = $2}
            END {m = int((NR + 1) / 2); if (a[1] < 0) {a[m] = "-"; a[NR] = "-"}
                printf "%-28s %6d %7s %7s %10d %7d\n", kind, NR, a[m], a[NR], b[m], b[NR]}'
    done
    hosts_gone
}

cut_ways() { # GROUP: some of the ways to cut clusters, all of one size; there are 46 groups
    local m n a b way
    for m in 1 2 3; do for n in 2 3 4 5; do
        for ((a = 0; a < m; a++)); do for ((b = 0; b <= n; b++)); do # on the side of the master that reigns
            [ $((a + 1 + b)) = $((m + n)) ] || for way in both out in; do echo "$m $n $a $b $way"; done
        done; done
    done; done | awk -v group="$1" '{if ($1 " " $2 != size || ++k == 7) {g++; k = 0; size = $1 " " $2}
        if (g == group + 1) print}'
}
sides() { # MASTERS NODES: puts `king`, c1 and so many others into `here_side`, all others into `rest`
    local who list=()
    for who in "${!HOST[@]}"; do [[ $who != m* || $who = "$king" ]] || list+=("$who"); done
    shuffle "${list[@]}"
    here_side=("$king" c1 "${shuffled[@]:0:$1}")
    list=()
    for who in "${!HOST[@]}"; do [[ $who != n* ]] || list+=("$who"); done
    shuffle "${list[@]}"
    here_side+=("${shuffled[@]:0:$2}")
    others "${here_side[@]}"
}
goes_on() { # MASTERS NODES A B: puts the client's host on the side that must take writes, or nothing, into `winner`
    winner='' losers=("${!HOST[@]}")
    if [ $((2 * $4)) -ge "$2" ]; then winner=c1 losers=("${rest[@]}"); return; fi # the master keeps half of the roster
    if [ "$3" -lt $(($1 - 1)) ]; then winner=c2 losers=("${here_side[@]}"); fi    # a standby has more than half
}
reads_old() { "${from[@]}" python3 "$here/.ci/wire.py" status "${ADDR[$1]}" | grep '^reads old'; } # MASTER
one_cut() { # MASTERS NODES A B WAY: all is well, and is cut; one side goes on, the other does not; it heals
    local here_side rest begun winner losers who ms
    at_host c2
    reigning
    sides "$3" "$4"
    goes_on "$@"
    echo "$5: ${here_side[*]} | ${rest[*]}; $king reigned; ${winner:-nobody} goes on"
    sever +1 "$5" "${here_side[@]}" -- "${rest[@]}"
    begun=$(now) ms=$(ms_now)
    if [ -n "$winner" ]; then
        at_host "$winner"
        if wait_for -t 20 dfs -q --mkdir "/round/$begun"; then
            ms=$(($(ms_now) - ms))
            [ "$winner" != c2 ] || took $ms
        else # the old master's side, half of a smaller roster that the other side got to hear of, and could not confirm
            [ "$winner $5" = 'c2 in' ]
            status | grep '^why .*more than half of the' >status
            not grep "of the $2 nodes" status
            cat status
            winner='' losers=("${!HOST[@]}")
        fi
    fi
    for who in "${losers[@]}"; do
        [[ $who = m* ]] || continue
        at_host c1
        [[ " ${here_side[*]} " == *" $who "* ]] || at_host c2
        [ -n "$winner" ] || wait_for reads_old "$who"
        reads_old "$who" # as soon as the other side has acknowledged something
        "${from[@]}" python3 "$here/.ci/wire.py" mkdir "${ADDR[$who]}" "/wrong/$begun" >answer
        grep '^ERR ' answer
    done
    pause 4000
    echo "${winner:-none} $begun $(now)" >>cuts
    heal
}
two_cuts() { # MASTERS NODES A B WAY A B WAY: the second comes while the first is there, they heal in any order
    local here_side rest first second begun
    at_host c2
    reigning
    sides "$3" "$4"
    first=("$5" "${here_side[@]}" -- "${rest[@]}")
    sides "$6" "$7"
    second=("$8" "${here_side[@]}" -- "${rest[@]}")
    echo "${first[*]}; then ${second[*]}; $king reigned"
    sever +1 "${first[@]}"
    begun[1]=$(now)
    pause 2500
    sever +1 "${second[@]}"
    begun[2]=$(now)
    pause 2500
    if [ $((RANDOM % 2)) = 0 ]; then
        echo "any ${begun[1]} $(now)" >>cuts
        sever -1 "${first[@]}"
        pause 2500
        echo "any ${begun[2]} $(now)" >>cuts
    else
        echo "any ${begun[2]} $(now)" >>cuts
        sever -1 "${second[@]}"
        pause 2500
        echo "any ${begun[1]} $(now)" >>cuts
    fi
    heal
}
cut_seed() { # SEED CUTS: a new cluster of some size, cut in some ways, with clients on both sides
    local king='' ways way next i jobs m n
    RANDOM=$(($1 % 32768))
    mapfile -t ways < <(cut_ways $(($1 * 17 % 46)))
    shuffle "${ways[@]}"
    ways=("${shuffled[@]:0:$2}")
    read -r m n _ <<<"${ways[0]}"
    echo "seed $1: $m masters, $n nodes"
    host_cluster "$m" "$n" c1 c2
    LINEAR_PREFIX="nsenter --net=/run/netns/$net-c1,nsenter --net=/run/netns/$net-c2" \
        python3 "$here/.ci/linear.py" run 4 2 "$1" history halt >clients 2>&1 &
    jobs=($!)
    for i in 1 2; do
        at_host "c$i"
        writer "$i" 2>/dev/null &
        jobs+=($!)
    done
    : >cuts
    for ((i = 0; i < ${#ways[@]}; i++)); do
        read -ra way <<<"${ways[i]}"
        if [ $((RANDOM % 4)) = 0 ] && [ $((i + 1)) -lt ${#ways[@]} ]; then
            i=$((i + 1))
            read -ra next <<<"${ways[i]}"
            two_cuts "${way[@]}" "${next[@]:2}"
        else
            one_cut "${way[@]}"
        fi
        at_host c2
        wait_for one_reigns # nobody had to help
        settled "$n"
        wait_for roster_is "$n"
    done
    touch halt
    wait "${jobs[0]}" || { cat clients; die "a client got an answer that it should not"; }
    wait "${jobs[@]:1}"
    cat clients
    python3 "$here/.ci/linear.py" sides history cuts
    python3 "$here/.ci/linear.py" check history
    [ ! -e write.failed ] || not grep -vE 'exit code (1|12|13)$' write.failed
    writers_kept
    wait_for agreed
    hosts_gone
    rm -r n? ./*.err ./*.out history halt clients cuts kept.* key
    rm -f write.failed
}

# clusters of all sizes are cut in all ways: at most one side acknowledges, it does if it can, they agree after it
test_cut() {
    local i count=2 cuts=2
    need jq python3
    [ "$slow" = 1 ] || count=2
    [ -z "$long" ] || count=50 cuts=7
    fast
    export DFS
    for ((i = 0; i < count; i++)); do cut_seed $((seed + i)) "$cuts"; done
    [ ! -e took ] || took_all "the master is cut off"
}

# nodes die one after another down to one, come back in random order, the master is killed at every step: all is kept
test_down_to_one() {
    local w who king='' jobs=() dead=()
    need jq python3
    fast
    masters 2 4
    for w in 1 2; do writer "$w" & jobs+=($!); done
    wrote() { [ "$(cat kept.[12] | wc -l)" -gt "$1" ]; }
    wrote_more() { local before; before=$(cat kept.[12] | wc -l); wait_for wrote $((before + 10)); }
    new_master() {
        reigning
        w=$king
        crash "$w"
        pause 300
        again "$w"
        wait_for one_reigns
        wrote_more
    }
    wait_for test -s kept.1
    wait_for test -s kept.2
    shuffle n1 n2 n3 n4
    dead=("${shuffled[@]:0:3}")
    echo "dying: ${dead[*]}"
    for who in "${dead[@]}"; do
        crash "$who"
        wait_for node_is "$who" down
        wrote_more
        [ "$who" != "${dead[1]}" ] || new_master
    done
    wait_for roster_is 1
    new_master
    shuffle "${dead[@]}"
    echo "coming back: ${shuffled[*]}"
    dead=("${shuffled[@]}")
    for who in "${dead[@]}"; do
        again "$who"
        new_master
        wait_for node_is "$who" up
    done
    touch halt
    wait "${jobs[@]}"
    not cat write.failed
    settled 4
    wait_for roster_is 4
    writers_kept
    wait_for agreed
}

files_are() { # FILE: what is in /d, in an answer that is current, is what FILE says
    local me=$BASHPID
    listed() { "$DFS" -j --ls /d >"ls.$me" 2>"said.$me" && ! grep -q 'possibly old' "said.$me"; }
    wait_for -t 120 listed
    jq -r '.[] | "\(.sha256) \(.name)"' "ls.$me" | sort | diff - "$1" >&2
}
change_files() { # NAME: two are removed, one gets other contents, two are new; `files` has what is there
    local name some content
    mapfile -t some < <(shuf -n 3 files)
    for name in "${some[@]:0:2}"; do dfs --rm "/d/${name#* }"; done
    for name in "$1.1" "$1.2" "${some[2]#* }"; do
        content=content.$((RANDOM % 12)) # perhaps what was just removed, and is about to be dropped
        dfs -q -u "/d/$name" "$content"
        echo "$(sha <"$content") $name"
    done >new
    for name in "${some[@]}"; do echo "$name"; done | grep -vxFf - files | sort - new >rest
    mv rest files
    files_are files
}
other_master() { # the one that reigns is killed, or all are, and come back
    local who list=(m1 m2)
    reigning
    [ $((RANDOM % 3)) = 0 ] || list=("$king")
    echo "killed: ${list[*]}"
    crash "${list[@]}"
    pause 1500
    again "${list[@]}"
    wait_for one_reigns
}
deleted_round() { # SEED: nodes die in turn, files are removed, masters change, nodes come back in any order
    local who dead alive watch left=4 sha name
    RANDOM=$(($1 % 32768))
    shuffle n1 n2 n3 n4
    dead=("${shuffled[@]:0:$((RANDOM % 3 + 1))}")
    alive=("${shuffled[@]:${#dead[@]}}")
    echo "seed $1: dying: ${dead[*]}"
    for who in "${dead[@]}"; do
        crash "$who"
        [ $((RANDOM % 2)) = 0 ] || change_files "$1.$who.1"
        left=$((left - 1))
        if [ $((RANDOM % 3)) = 0 ]; then
            wait_for roster_is "$left" # else too few of its members may be up for any master
            other_master
        fi
        change_files "$1.$who.2"
    done
    wait_for roster_is ${#alive[@]}
    change_files "$1.all"
    who=$(grep -c 'gave back segment' "${alive[0]}.err") || true
    for _ in 1 2 3; do dfs --bench up --files 600 --size 0 --clients 4 >bench.out; done
    compacted() { [ "$(grep -c 'gave back segment' "${alive[0]}.err")" -gt "$who" ]; }
    wait_for compacted # the records of the removals are in no log any more
    rm -f halt
    until [ -e halt ]; do files_are files || touch returned; nap 100; done & # from now on nothing changes
    watch=$!
    shuffle "${dead[@]}"
    dead=("${shuffled[@]}")
    if [ $(($1 % 2)) = 0 ]; then
        echo "only those that lack the removals: ${dead[*]}"
        crash m1 m2 "${alive[@]}"
        again "${dead[@]}" m1 m2
        wait_for state read-only
        for _ in $(seq 40); do pause 200; state read-only; done
        shuffle "${alive[@]}"
        dead=("${shuffled[@]}")
    fi
    echo "coming back: ${dead[*]}"
    for who in "${dead[@]}"; do
        again "$who"
        [ $((RANDOM % 3)) = 0 ] || pause 1500
        [ $((RANDOM % 3)) != 0 ] || [ "$(state_now)" = read-only ] || other_master
    done
    settled 4
    wait_for roster_is 4
    other_master
    settled 4
    touch halt
    wait "$watch"
    [ ! -e returned ]
    files_are files
    while read -r sha name; do [ "$(dfs -q -d "/d/$name" - | sha)" = "$sha" ] || die "/d/$name differs"; done <files
    wait_for agreed
}

# files are deleted while nodes are down; whoever comes back, in any order and under any master, they stay deleted
test_deleted() {
    local i king='' count=2
    need jq python3
    [ "$slow" = 1 ] || count=1
    [ -z "$long" ] || count=20
    fast
    export DFS_GRACE=1s DFS_TRASH_TIME=0s DFS_SEGMENT_SIZE=64K # records and contents move while nodes are down
    masters 2 4
    for i in $(seq 0 11); do random 5000 >"content.$i"; done
    for i in $(seq 0 7); do
        dfs -q -u "/d/$i" "content.$i"
        echo "$(sha <"content.$i") $i"
    done | sort >files
    for ((i = 0; i < count; i++)); do deleted_round $((seed + i)); done
}

# a master restarts with: all nodes, a minority, one that left long ago, wiped, copied, strange and swapped ones
test_restarts() {
    local before
    need jq python3
    fast
    masters 1 3
    random 5000000 >f
    dfs -q -u /f f
    dfs -q -u /gone f
    wait_for held_by /f n1 n2 n3
    why() { status | grep >/dev/null "^why .*$1"; }
    waits() { # TEXT: read-only, and says why in status and log
        wait_for why "$1"
        state read-only
        wait_for log_says m1 "$1"
        python3 "$here/.ci/wire.py" mkdir "${ADDR[m1]}" /no | grep >/dev/null '^ERR readonly '
    }
    all_well() { # NODES
        settled "$1"
        same /f f
        agreed
    }
    restart() { # NAME...: everything is killed; the master and these start
        crash "${!PID[@]}"
        : >m1.err
        again m1 "$@"
    }
    echo "all nodes"
    restart n1 n2 n3
    all_well 3
    log_says m1 ' reigning: epoch '
    echo "a minority"
    restart n1
    waits 'waiting for more than half of the 3 nodes of the last roster; here: n1; missing: n[23] n[23]'
    fails 13 --mkdir /no & # the program goes on asking for a while
    timeout $((30 * slow)) "$DFS" --stat /f >stat 2>said || true
    [ ! -s stat ] || grep -q 'possibly old' said
    wait $!
    again n2
    wait_for roster_is 2
    same /f f
    again n3
    all_well 3
    echo "only nodes that left the roster long ago"
    crash n3
    wait_for roster_is 2
    dfs --rm /gone
    dfs --mkdir /two
    crash n2
    wait_for roster_is 1
    dfs --mkdir /one
    restart n3
    waits 'waiting for more than half of the 3 nodes of the last roster; here: n3; missing: n[12] n[12]'
    again n2 # two of the three of the older roster, but the newest that they know is n1, n2
    waits 'waiting for more than half of the 2 nodes of the last roster; here: n2; missing: n1'
    again n1
    all_well 3
    dfs --stat /one >/dev/null
    dfs --stat /two >/dev/null
    fails 2 --stat /gone
    echo "a wiped node under its old address"
    crash m1 n1 n2 n3
    rm -r n3
    : >m1.err
    again n3 n1 m1
    waits 'waiting for more than half of the 3 nodes of the last roster; here: n1; missing: '
    again n2
    wait_for roster_is 3 # the new n3 is one of them
    wait_for held_by /f n1 n2 n3
    same /f f
    dfs --nodes | awk '$1 == "n3" {print $2}' | sort | xargs | grep >/dev/null -x 'down up' # the wiped one is missed
    wait_for agreed
    echo "a blank node and one good one, which is the whole roster"
    crash n2
    wait_for roster_is 2
    crash n3
    wait_for roster_is 1
    dfs --mkdir /alone
    crash m1 n1
    : >m1.err
    master m1 "${ADDR[m1]}"
    node n4
    wait_for log_says n4 'waits for a node that knows the cluster'
    python3 "$here/.ci/wire.py" mkdir "${ADDR[m1]}" /no | grep >/dev/null '^ERR readonly '
    again n1
    wait_for roster_is 2
    wait_for held_by /f n1 n4
    dfs --stat /alone >/dev/null
    crash m1 n1 # two copies of it, and the blank one
    echo "only the one that was blank"
    again m1
    waits 'waiting for more than half of the 2 nodes of the last roster; here: n4; missing: '
    again n1 n2 n3
    wait_for roster_is 4
    same /f f
    echo "two nodes with the same copied directory"
    crash n1
    cp -r n1 copy
    restart n1 n2 n3 n4
    start copy node "$PWD/copy" -l 127.0.0.1:0
    wait_for log_says copy 'a node with this id is up at .*was its directory copied'
    wait_for roster_is 4
    stop copy
    wait_for roster_is 4
    same /f f
    echo "swapped directories"
    crash m1 n1 n2
    mv n1 n; mv n2 n1; mv n n2
    before=$(jq -r .node n1/node.json)
    : >m1.err
    again m1
    start n1 node "$PWD/n1" -l "${ADDR[n1]}"
    start n2 node "$PWD/n2" -l "${ADDR[n2]}"
    wait_for roster_is 4
    at_address() {
        dfs --nodes -j | jq -e --arg id "$before" --arg address "${ADDR[n1]}" \
            '.nodes | any(.id == $id and .address == $address and .state == "up")'
    }
    wait_for at_address
    same /f f
    dfs --mkdir /swapped
    wait_for agreed
    echo "a node of another cluster"
    start mx master --init -l 127.0.0.1:0
    start x node "$PWD/x" -n x -m "${ADDR[mx]}" -l 127.0.0.1:0
    x_is_up() { dfs -m "${ADDR[mx]}" --nodes | grep >/dev/null '^x .* up '; }
    wait_for x_is_up
    dfs -q -m "${ADDR[mx]}" --mkdir /strange
    crash mx x m1
    : >m1.err
    again m1
    wait_for roster_is 4
    again x
    wait_for log_says x 'this node belongs to cluster .*, this master serves cluster '
    fails 2 --stat /strange
    same /f f
    stop n1 n2 n3 n4 m1 x
    : >m1.err
    again x m1 # this time it is the first that the master meets: then that is its cluster, and the others are strange
    wait_for log_says m1 'node x joined'
    : >n1.err
    again n1
    wait_for log_says n1 'this node belongs to cluster .*, this master serves cluster '
    fails '2|13' --stat /f
    crash x m1
    again m1 n2 n3 n4
    wait_for roster_is 4
    same /f f
    fails 2 --stat /strange
    wait_for agreed
}

# --force-from: on from one node of three when the others are gone; said for ever
test_forced() {
    waits() { status | grep >/dev/null 'waiting for more than half'; }
    forced() { status | grep >/dev/null '^forced .* n1 alone'; }
    fast
    cluster 3
    random 300000 >f
    dfs -q -u /f f
    wait_for held_by /f n1 n2 n3
    crash m n2 n3
    master m "$DFS_MASTER"
    wait_for waits
    fails 13 --mkdir /x
    stop m
    fails 64 master --init --force-from n1
    master m "$DFS_MASTER" --force-from n1
    wait_for dfs --mkdir /x
    forced
    node n2
    node n3
    settled 3
    same /f f
    stop m
    master m "$DFS_MASTER"
    settled 3
    forced
    status -j | grep >/dev/null '"forced": \['
}

# no master: reads come from the nodes, and say that they are possibly old; changes are refused
test_no_master() {
    fast
    cluster 3
    random 5000000 >f
    dfs -q -u /d/f f
    wait_for held_by /d/f n1 n2 n3
    crash m
    : >client.err
    same /d/f f
    grep -q 'possibly old' client.err
    dfs --ls /d | grep >/dev/null ' f$'
    fails 1 --mkdir /x
    crash n1
    same /d/f f
    node n1
    master m "$DFS_MASTER"
    settled 3
    dfs --mkdir /x
}

# ---- Failures of one machine ----

failing() { # builds the program that lets system calls fail
    need gcc
    gcc -std=gnu11 -O2 "$here/.ci/failing.c" -o failing
    ./failing count counts true 2>said || skip "no process here may decide on another's system calls: $(cat said)"
    ./failing calls >kinds
    [ "$slow" = 1 ] || # sanitizers need these themselves, and don't bear it
        sed -i -E '/^(mmap|munmap|mprotect|madvise|brk|clone3?|open|access|stat|read|clock_nanosleep) /d' kinds
}
places() { # COUNTS: all places where a call may fail, "CALL ERROR N"; N+ is for ever from there on; and dfs's own
    local kind n
    wait_for grep -q . "$1" # the other process writes it when it comes to it
    # the first mmap is the C library's: musl does not look whether it failed
    awk 'NR == FNR {count[$1] = $2; next}
        $1 in count {for (n = $1 == "mmap" ? 2 : 1; n <= count[$1]; n++) {
            print $1, $2, n
            if ($2 != "EINTR" && ($2 != "EAGAIN" || $1 ~ /^clone/)) print $1, $2, n "+"}}' "$1" kinds
    for kind in open read write sync rename; do
        for n in 1 2 3 4 6 8 12; do printf 'fault %s %s\n' "$kind" "$n" "$kind" "$n+"; done
    done
}
some() { # COUNT CALLS FILE: half of them in these calls; else one of each, then a second...; in the long run all
    [ -z "$long" ] || { cat "$3"; return; }
    awk -v seed="$RANDOM" 'BEGIN {srand(seed)} {print rand(), $0}' "$3" | sort -n >shuffled
    awk -v calls="^($2)\$" '$2 ~ calls' shuffled >first
    awk '{print seen[$2 " " $3]++, $0}' shuffled | sort -s -n -k 1,1 >each
    head -n $(($1 / 2)) first | cut -d' ' -f2-
    head -n $(($1 - $1 / 2)) each | cut -d' ' -f3-
}
with_fault() { # CALL ERROR N HIT: puts the command that runs a program with this fault into `under`
    under=(./failing "$@")
    [ "$1" != fault ] || under=(env "DFS_FAULT=$2:$3")
    rm -f "$4"
}
crashed() { # EXIT-CODE: by a signal, or by a sanitizer
    [ "$1" -gt 128 ] || [ "$1" = 99 ] || [ "$1" = 66 ]
}
part_of() { # LOCAL WHOLE: whether it is its beginning
    cmp "$1" <(head -c "$(stat -c %s "$1")" "$2")
}

# each system call of a node fails, once or for ever: what is acknowledged is on the disks that it should be on, the
# node starts again in good order
test_node_calls() {
    local call error n code place rounds=0 hits=0 stuck=0 from_line at
    export DFS_PING=50ms DFS_DEAD_AFTER=400ms
    [ "$slow" = 1 ] || fast
    failing
    cluster 2
    at=${ADDR[n1]} # where clients that know no master look for it
    rm -rf .cache
    dfs --stat / >stat
    : >kept
    put() { # PATH LOCAL: notes it if it was acknowledged; it may fail, and may be given up, but not crash
        local result=0
        timeout $((8 * slow)) "$DFS" -q -u "$1" "$2" --chunk-size 100K 2>>client.err || result=$?
        [ "$result" != 0 ] || echo "$1 $(sha <"$2")" >>kept
        not crashed "$result"
    }
    puts() { # ROUND
        random 1000 >small
        random 300000 >large
        put "/$1/small" small
        put "/$1/large" large
        put "/$1/more" small
    }
    owes() { # whether n1 is in the last roster on the disk of n2: then it has all that was acknowledged
        local id
        id=$(sed -n 's/^ *"node": "\([0-9a-f]*\)".*/\1/p' n1/node.json 2>/dev/null)
        [ -n "$id" ] && find n2/log -type f | sort | xargs grep -ahE '^ROSTER [0-9a-f,]+$' |
            tail -n 1 | grep >/dev/null "$id"
    }
    kept_are() { # LINE: the files in `kept` from this line on are there and right
        local path hash
        tail -n "+$1" kept | while read -r path hash; do
            [ "$(dfs -q -d "$path" - | sha)" = "$hash" ] || die "$place: $path was acknowledged and is lost"
        done
    }
    run_n1() {
        rm -f n1.out
        "${under[@]}" "$DFS" node "$PWD/n1" -n n1 -l "$at" >n1.out 2>>n1.err &
        PID[n1]=$!
        under=()
        wait_for begun
    }
    begun() { ended n1 || log_says n1 'joined master' || serving n1 || is_up 2; } # its lines may be what fails
    reap() { # the code of n1, if it has ended, into `code`
        [ -n "${PID[n1]:-}" ] && ended n1 2>/dev/null || return 0
        wait "${PID[n1]}" || code=$?
        unset "PID[n1]"
        not crashed "$code" || die "$place: the node ended with $code"
        grep -qE '^dfs: |Z node: |error while loading' n1.err || die "$place: the node ended without a word"
    }
    comes_back() { ended n1 || log_says n1 'STORE FAILED' || { is_up 2 && roster_is 2; }; }
    stop n1
    under=(./failing count counts)
    run_n1
    settled 2
    puts 0
    stop n1
    places counts >all
    echo "$(wc -l <all) places in $(wc -l <counts) calls: $(tr '\n' ',' <counts)"
    least=$(rounds 10 6)
    some $((least * 2)) 'p?writev?|pwrite64|f(data)?sync|ftruncate' all >chosen
    while read -r call error n <&3; do
        [ "$rounds" -lt "$least" ] || [ "$hits" -le $((least / 2)) ] || break # half of them have to be met
        place="$call $error $n" rounds=$((rounds + 1)) from_line=$(($(wc -l <kept) + 1)) code=0
        [ -z "${PID[n1]:-}" ] || if [ $((RANDOM % 2)) = 0 ]; then stop n1; else crash n1; fi
        : >n1.err
        with_fault "$call" "$error" "$n" hit
        run_n1
        reap
        if [ -n "${PID[n1]:-}" ]; then
            if [[ $n = *+ ]]; then
                wait_for -t 2 comes_back 2>/dev/null || stuck=$((stuck + 1))
            else
                wait_for comes_back || die "$place: the node does not come back"
            fi
            puts "$rounds"
        fi
        reap
        if [ "$call" = fault ] || [ -s hit ]; then hits=$((hits + 1)); fi
        echo "$place: $([ ! -s hit ] || cat hit), exit code $code, $(wc -l <kept) kept"
        if [[ $call = f*sync ]] && [ -s hit ] && [ "$code" = 0 ]; then
            log_says n1 'STORE FAILED' || die "$place: the node goes on after a failed sync"
        fi
        crash "${!PID[@]}"
        : >n1.err
        run_n1
        if owes; then kept_are "$from_line"; fi # from n1 alone
        again n2
        master m "$DFS_MASTER"
        settled 2
        wait_for roster_is 2
        not grep -E 'DAMAGED|records are damaged' n1.err n2.err
        kept_are "$from_line"
    done 3<chosen
    place='in the end'
    kept_are 1
    echo "$rounds rounds, the fault happened in $hits, in $stuck the node was not back after two seconds"
    [ "$hits" -gt $((least / 2)) ]
}

# each system call of a client fails, once or for ever: it never reports what is not true, leaves no half file
test_client_calls() {
    local how place i=0 jobs=() args
    failing
    cluster 2
    random 300000 >f
    dfs -q -u /f f --chunk-size 64K
    try() { # NUMBER HOW CALL ERROR N: up, down, down over another file, or into a pipe
        local i=$1 local_file=try.$1/got code=0
        mkdir "try.$i"
        with_fault "${@:3:3}" "hit.$i"
        under=(timeout $((60 * slow)) "${under[@]}" "$DFS" -q)
        [ "$2" != over ] || echo old >"$local_file"
        case $2 in
        up) "${under[@]}" -u "/try/$i" f --chunk-size 64K ;;
        down | over) "${under[@]}" -d /f "$local_file" ;;
        pipe) "${under[@]}" -d /f - | cat >"$local_file" ;;
        esac 2>"try.$i.said" || code=$?
        echo "${*:2}: $([ ! -s "hit.$i" ] || cat "hit.$i"), exit code $code, $(head -n 1 "try.$i.said")"
        if crashed "$code" || [ "$code" = 124 ]; then return 1; fi
        [ "$code" = 0 ] || [[ $3 = write* ]] || [ "$3 $4" = 'fault write' ] || [ -s "try.$i.said" ] || return 1
        case $2.$code in
        up.0) dfs -q -d "/try/$i" - | cmp - f ;;
        up.*) ! dfs -q -d "/try/$i" "$local_file" || cmp "$local_file" f ;;
        *.0) cmp "$local_file" f ;;
        down.*) [ ! -e "$local_file" ] || cmp "$local_file" f ;;
        over.*) grep -qx old "$local_file" || cmp "$local_file" f ;;
        pipe.*) part_of "$local_file" f ;;
        esac
    }
    for how in up down over pipe; do
        args=(-d /f got)
        [ "$how" != up ] || args=(-u /count f --chunk-size 64K)
        [ "$how" != pipe ] || args=(-d /f -)
        rm -f counts
        ./failing count counts "$DFS" -q "${args[@]}" >out
        places counts >all
        echo "$how: $(wc -l <all) places in $(wc -l <counts) calls: $(tr '\n' ',' <counts)"
        some "$(rounds 16 8)" 'open|openat|read|write|rename|recvfrom|sendmsg' all | sed "s/^/$how /" >>chosen
    done
    while read -r -a place <&3; do
        i=$((i + 1))
        while [ "$(jobs -r | wc -l)" -ge 12 ]; do wait -n || true; done
        { try "$i" "${place[@]}" >"try.$i.log" 2>&1 || cat "try.$i.log" >>failed; } 3<&- &
        jobs+=($!)
    done 3<chosen
    for i in "${jobs[@]}"; do wait "$i" || true; done
    cat try.*.log >tries
    echo "$(wc -l <chosen) rounds, the fault happened in $(grep -c ': hit' tries)"
    not cat failed
    [ "$(grep -c ": hit" tries)" -gt $(($(wc -l <chosen) / 2)) ]
    [ "$(grep -c '^' tries)" -ge "$(wc -l <chosen)" ]
}

disks() { # NAME...: a file system of its own in the folder NAME, for each; xfs, or a small ext4 if `small` is set
    local who make=(mkfs.xfs -q) size=1G
    PATH+=:/usr/sbin:/sbin
    [ -z "${small:-}" ] || make=(mkfs.ext4 -q) size=256M
    [ "$(id -u)" = 0 ] || skip "only root may mount"
    need "${make[0]}" xfs_io fsfreeze mount umount
    for who; do
        truncate -s "$size" "$who.disk"
        "${make[@]}" "$who.disk" >said 2>&1 || skip "${make[0]}: $(tail -n 1 said)"
        mkdir -p "$who"
        mount -o loop "$who.disk" "$who" 2>said || skip "no loop device, or no such file system: $(tail -n 1 said)"
        [ ! -w "$throttled" ] || throttle "$who" 0 # what a run that was killed left
    done
}
disks_end() { # FOLDER: unmounts all below it
    local at device
    awk -v p="$1/" 'index($5, p) == 1 {print $5, $3}' /proc/self/mountinfo | while read -r at device; do
        fsfreeze -u "$at" 2>/dev/null || true
        [ ! -w "$throttled" ] || echo "$device 0" >"$throttled" || true
        wait_for -t 2 umount "$at" 2>/dev/null || umount -l "$at" || true
    done
}

# the power of one node or of all fails in a burst of uploads: what was not synced is gone, nothing acknowledged is
test_power_cut() {
    local victims
    need jq
    disks n1 n2 n3
    fast
    cluster 3
    fell() { # NAME...: no more byte reaches their disks, nor does what the kernel still has for them
        local who cuts=()
        for who; do
            [ -e "$who.disk" ] || continue
            xfs_io -x -c shutdown "$who" &
            cuts+=($!)
        done
        wait "${cuts[@]}"
        crash "$@"
        for who; do [ ! -e "$who.disk" ] || wait_for umount "$who"; done
    }
    revive() {
        local who
        shuffle "$@"
        for who in "${shuffled[@]}"; do
            [ ! -e "$who.disk" ] || mount -o loop "$who.disk" "$who"
            : >"$who.err" # what it says when the disk is back counts
            again "$who"
        done
    }
    : >kept
    for ROUND in $(seq "$(rounds 4 4)"); do
        case $((ROUND % 4)) in
        0) victims=(m n1 n2 n3) ;;
        1) victims=(n1 n2 n3) ;;
        2) victims=(n2) ;;
        3) victims=(n1 n3) ;;
        esac
        kill_round 80 "${victims[@]}"
        settled 3
        not grep -E 'DAMAGED:|records are damaged' n?.err # found at a start; a read from a dead disk says DAMAGED too
    done
    [ -s kept ]
    all_kept
    wait_for agreed
}

# Failing disks: what was acknowledged is in `kept`; the others go on, whatever one disk does.
keep_file() { # PATH LOCAL: uploads it, which must work
    dfs -q -u "$1" "$2" && echo "$(sha <"$2") $1" >>kept
}
kept_all() { # every file in `kept`, as it was last, is there and right
    local hash path
    tac kept | awk '!seen[$2]++' >last
    while read -r hash path; do
        [ "$(dfs -q -d "$path" - | sha)" = "$hash" ] || die "$path was acknowledged and is lost or wrong"
    done <last
}
leave() { # NODE MEGABYTES: somebody else's file takes what else is free on its disk
    fallocate -l "$(($(df -B1M --output=avail "$1" | tail -n 1) - $2))M" "$1/stranger"
}
none_left() { # NODE: somebody else's file takes its disk to the last byte
    cat /dev/zero 2>/dev/null >>"$1/stranger" || true
    sync -f "$1"
    [ "$(df -B1K --output=avail "$1" | tail -n 1)" -lt 64 ]
}
whys() { status -j | jq -r '.why[]'; }
full_are() { # [NODE...]: these and no others are said to be full
    [ "$(whys | sed -nE 's/^node (n[0-9]) is full: [0-9.]+ [KM]?i?B of .* are free.*/\1/p' | xargs)" = "$*" ]
}
failed_are() { # [NODE...]: the same for those whose disk has failed; they are in no roster
    [ "$(whys | sed -nE 's/^node (n[0-9]) has a failed disk.*/\1/p' | xargs)" = "$*" ] && roster_is $((3 - $#)) &&
        [ "$(dfs --nodes -j | jq -r '.nodes[] | select(.state == "failed").name' | xargs)" = "$*" ]
}
lacking() { status -j | jq -e ".copies_missing == $1"; }
long_names() { seq -f "/$1/%0200.0f" 300; } # some 70 KB of them
dfs_all() { xargs "$DFS" "$@" 2>>client.err; } # with the words of a pipe

# the disk of one node is full, then all are: said so, the rest goes on, what is removed gives room, nothing is lost
test_full() {
    local small=1 i who begun
    need jq python3 fallocate
    disks n1 n2 n3
    sturdy
    export DFS_GRACE=300ms DFS_TRASH_TIME=1h
    cluster 3
    : >kept
    for i in 1 2 3 4; do
        random 5000000 >f
        keep_file "/before/$i" f
    done
    random 30000000 >gone
    dfs -q -u /gone gone
    wait_for held_by /gone n1 n2 n3
    settled 3

    mended() { # NODE...: there is room again; who could not even write a record has to be started again
        local who
        for who; do
            rm "$who/stranger"
            log_says "$who" 'STORE FAILED' || continue
            crash "$who"
            rm "$who.err"
            again "$who"
        done
        wait_for roster_is 3
    }

    wait_for none_left n2 # one: not even names have room
    random 3000 >g
    for i in 1 2; do
        keep_file "/none/$i" f
        keep_file "/none/small$i" g
    done
    for i in $(seq 10); do roster_is 2 || long_names "names$i" | dfs_all --mkdir; done
    wait_for roster_is 2
    kept_all
    mended n2
    settled 3

    leave n2 5 # one: names still have room
    wait_for full_are n2
    for i in 1 2 3; do
        random $((i * 2000000)) >f
        random "$i" >g
        keep_file "/one/$i" f
        keep_file "/one/small$i" g
        held_by "/one/$i" n1 n3
    done
    keep_file /before/4 g # over a file
    lacking 7
    status >status
    grep -qE '^why +node n2 is full: .* free' status
    grep -qE '^why +7 copies are missing, 11.4 MiB$' status
    wait_for is_up 3
    wait_for roster_is 3
    kept_all

    for who in n1 n3; do leave "$who" 5; done # all
    wait_for full_are n1 n2 n3
    for i in 10 6000000; do
        random "$i" >f
        fails 10 -u /all/f f
        grep -qx 'dfs: upload: no space: all nodes are full; delete files or add a node' fails.text
        fails 10 -u /before/1 f
    done
    fails 2 --stat /all/f
    dfs --mkdir /all/x
    dfs --mv /before/2 /before/two
    dfs --mv /before/two /before/2
    kept_all
    crash n1 n2 n3
    again n1 n2 n3
    wait_for roster_is 3
    wait_for full_are n1 n2 n3
    kept_all
    rm n2/stranger # one has room again
    wait_for full_are n1 n3
    fails 10 -u /all/f f
    grep -q ' only 1 of 3 nodes have room, and 2 must have the bytes; delete files' fails.text
    for i in 1 2 3; do wait_for held_by "/one/$i" n1 n2 n3; done
    wait_for lacking 0
    dfs --rm /gone
    fits() { keep_file /fits f; }
    wait_for fits
    in_order n1 n2 n3
    kept_all

    for who in n1 n2 n3; do wait_for none_left "$who"; done # all: not even names have room
    for i in $(seq 20); do
        ! state read-only || break
        long_names "all$i" | timeout $((2 * slow)) xargs "$DFS" --mkdir 2>>client.err || true
    done
    wait_for state read-only
    kept_all
    mended n1 n2 n3
    settled 3
    full_are ""
    kept_all
    in_order n1 n2 n3
    wait_for agreed
}

# a disk fails in a read, in a write, is read-only: the node says so and leaves, no request fails, it comes back
test_bad_disk() {
    local how who first writing=()
    need jq python3
    small=1 disks n3
    disks n2
    fast
    cluster 3
    : >kept
    random 9000000 >large
    random 30000 >little
    keep_file /large large
    keep_file /little little
    for who in /large /little; do wait_for held_by "$who" n1 n2 n3; done
    settled 3
    dies() { xfs_io -x -c shutdown n2; }
    read_only() { mount -o remount,abort n3; }
    reads() { # LOCAL: until n2 has noticed
        local i
        dies
        for i in $(seq 200); do
            same "/$1" "$1"
            ! log_says n2 'STORE FAILED' || break
        done
        log_says n2 'STORE FAILED: reading segment .*: I.* error'
    }
    written() { # COUNT: so many more files than at the first call
        [ "$first" != 0 ] || first=$(cat kept.* | wc -l)
        [ "$(cat kept.* | wc -l)" -ge $((first + $1)) ] && first=0
    }
    first=0
    for how in "reads little" "reads large" dies read_only; do
        who=n2
        case $how in
        reads*) $how ;;
        *)
            [ "$how" = dies ] || who=n3
            rm -f halt
            writer "1$who" & writing=($!)
            writer "2$who" & writing+=($!)
            wait_for written 20
            "$how"
            same /large large
            wait_for failed_are "$who"
            wait_for written 20
            touch halt
            wait "${writing[@]}"
            not cat write.failed
            writers_kept
            ;;
        esac
        wait_for failed_are "$who"
        wait_for is_up 2
        keep_file "/after/${how// /}" large
        kept_all
        grep "STORE FAILED" "$who.err"
        crash "$who"
        fails 5 node "$PWD/$who" -n "$who" -l 127.0.0.1:0 # nor does it start
        grep "$PWD/$who" fails.text
        wait_for umount "$who"
        mount -o loop "$who.disk" "$who"
        : >"$who.err"
        again "$who"
        settled 3
        in_order "$who"
        wait_for held_by "/after/${how// /}" n1 n2 n3
    done
    kept_all
    in_order n1
    wait_for agreed
}

throttled=/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device
throttle() { # FOLDER BYTES: its disk writes so many in a second; 0: as many as it can
    echo "$(awk -v p="$PWD/$1" '$5 == p {print $3}' /proc/self/mountinfo) $2" >"$throttled"
}

# a disk that writes 2 MB/s under more load than that: the others are not held up by it for long, and it catches up
test_slow_disk() {
    local i begun ms readers
    need jq python3
    [ -w "$throttled" ] || skip "no cgroup here slows a disk down"
    disks n2
    throttle n2 2097152
    begun=$(ms_now)
    head -c 2097152 /dev/zero >n2/probe
    sync -d n2/probe
    [ $(($(ms_now) - begun)) -gt 400 ] || skip "no cgroup here slows a disk down"
    rm n2/probe
    throttle n2 0
    fast
    cluster 3
    : >kept
    random 20000000 >before
    keep_file /before before
    wait_for held_by /before n1 n2 n3
    settled 3
    throttle n2 2097152
    reader() {
        local begun
        until [ -e halt ]; do
            begun=$(ms_now)
            same /before before || echo failed >>read.failed
            echo "$(($(ms_now) - begun))" >>read.ms
            nap 50
        done
    }
    reader &
    readers=($!)
    writer 1 &
    readers+=($!)
    begun=$(ms_now)
    for i in $(seq 10); do # 100 MB: 50 s of that disk
        random 10000000 >f
        keep_file "/slow/$i" f
        pause 300
    done
    ms=$(($(ms_now) - begun))
    not held_by /slow/10 n1 n2 n3 # it has not got them yet
    touch halt
    wait "${readers[@]}"
    echo "100 MB in $ms ms, $(wc -l <kept.1) small files meanwhile; worst read $(sort -n read.ms | tail -n 1) ms"
    echo "$(grep -cE 'acknowledges nothing|no ping' m.err) times n2 was not waited for"
    not cat write.failed read.failed
    [ "$ms" -lt $((40000 * slow)) ] # that disk alone would take 50 s, and what else goes on here some more
    [ "$(sort -n read.ms | tail -n 1)" -lt $((20000 * slow)) ]
    in_order n1 n2 n3
    copied() { dfs --stat /slow/1 | grep >/dev/null 'n1 n2 n3'; } # as slow as it is, it goes on
    wait_for copied
    throttle n2 0
    settled 3
    for i in $(seq 10); do held_by "/slow/$i" n1 n2 n3; done
    kept_all
    writers_kept
    wait_for agreed
}

# few descriptors, files that may not grow: said with clear words, or served all the same; others are not affected
test_limits() {
    local who i crowd
    need jq python3 prlimit
    fast
    cluster 3
    : >kept
    random 9000000 >f
    random 3000 >g
    keep_file /f f
    keep_file /g g
    for i in 10 63; do # servers need more
        for who in "master --init" "node $PWD/n9"; do
            under=(prlimit "--nofile=$i")
            # shellcheck disable=SC2086 # words
            not start n9 $who -l 127.0.0.1:0
            grep -q "^dfs: this process may open $i files, and needs 64; raise the limit (ulimit -n)" n9.err
            rm n9.err
        done
    done
    [ ! -e n9 ]
    from=(prlimit --nofile=10) # a client does not
    for i in 1 2 3; do
        keep_file "/few/$i" f
        same "/few/$i" f
        status >status
    done
    from=()

    stop n2 m # servers with as few as they take, and many clients
    under=(prlimit --nofile=64)
    again n2 m
    under=()
    settled 3
    dfs --bench up --files 600 --size 3000 --clients 16
    dfs --bench down --files 600 --size 3000 --clients 16
    crowd() { # strangers take every place at n2, as long as there is no `halt`
        python3 -c 'import os, socket, sys, time
host, port = sys.argv[1].rsplit(":", 1)
while not os.path.exists("halt"):
    held = [socket.create_connection((host, int(port))) for _ in range(200)]
    time.sleep(0.2)' "${ADDR[n2]}" 2>crowd.err || true
    }
    crowd &
    crowd=$!
    wait_for log_says n2 'too many connections'
    for i in 1 2 3; do
        random 5000000 >f
        keep_file "/crowd/$i" f
        same "/crowd/$i" f
        same /g g
    done
    touch halt
    wait "$crowd"
    settled 3
    in_order n1 n2 n3
    kept_all

    stop n2 # no file may be as large as a segment
    touch marker
    under=(prlimit --fsize=4194304)
    : >n2.err
    i=${ADDR[n2]}
    not again n2
    ADDR[n2]=$i
    grep -q '^dfs: files of this process may have 4194304 bytes, .*; raise the limit (ulimit -f)' n2.err
    under=(prlimit --fsize=16777216)
    again n2
    under=()
    settled 3
    for i in 1 2 3; do
        random 20000000 >f
        keep_file "/small-files/$i" f
        wait_for held_by "/small-files/$i" n1 n2 n3
    done
    [ "$(find n2/log -type f -newer marker | wc -l)" -gt 3 ]
    [ -z "$(find n2/log -type f -newer marker -size +16M)" ]
    in_order n2
    prlimit --pid "${PID[n2]}" --fsize=100000 # while it runs
    for i in 1 2 3; do
        keep_file "/none/$i" f
        random 3000 >g
        keep_file "/none/small$i" g
    done
    if log_says n2 'STORE FAILED: .* too large'; then wait_for failed_are n2; fi
    kill -0 "${PID[n2]}"
    kept_all
    crash n2
    again n2
    settled 3
    wait_for held_by /none/3 n1 n2 n3
    kept_all
    in_order n1 n3
    wait_for agreed
}

# the clocks of servers and clients jump by hours and years, both ways: no node leaves, nobody takes over, nothing fails
test_clock_jumps() {
    local who epoch before=0 round jump jumps=0 jobs=() w library
    plain
    need gcc jq python3
    library=$(find /usr/lib /usr/local/lib -name libfaketimeMT.so.1 2>/dev/null | head -n 1)
    [ -n "$library" ] || skip "no libfaketime"
    gcc -O1 "$here/dfs.c" -o dfs-dynamic -pthread # which can be given another clock than the C library's
    DFS=$PWD/dfs-dynamic
    set_clock() { # NAME SECONDS: fast or slow by so much
        printf '%+d\n' "$2" >"clock.$1.new"
        mv "clock.$1.new" "clock.$1"
    }
    for who in m1 m2 n1 n2 n3 client; do set_clock "$who" 0; done
    { # the clocks that no one can set stay as they are, and waits on them too
        echo '#!/bin/sh'
        echo 'export FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_FORCE_MONOTONIC_FIX=0'
        echo "LD_PRELOAD=$library FAKETIME_TIMESTAMP_FILE=$PWD/clock.\$WHO exec \"\$@\""
    } >clocked
    chmod +x clocked
    under=(./clocked) from=(env WHO=client ./clocked)
    sturdy
    masters 2 3
    random 5000000 >f
    dfs -q -u /f f
    reader() {
        until [ -e halt ]; do
            dfs -q -d /f - | cmp - f || echo "a download failed" >>read.failed
            nap 50
        done
    }
    lines() { cat kept.* 2>/dev/null | wc -l; }
    all_up() { [ "$(dfs --nodes | grep -c ' up  *[0-9.]*s ago ')" = 3 ]; }
    goes_on() { [ "$(lines)" -gt $((before + 2)) ]; }
    epoch_now() { status | awk '$1 == "epoch" {print $2}'; }
    lived() { sed 's/^[^ ]* //' "$1.err" | grep -cE "$2"; } # SERVER TEXT: how often it said that
    quiet() { # none has lost another, or found it again
        local who
        for who in m1 m2 n1 n2 n3; do
            lived "$who" 'joined|is gone| is down|roster:|reigning|epoch .* ends|standing by|closed the connection'
        done
    }
    for w in 1 2; do writer "$w" & jobs+=($!); done
    reader &
    jobs+=($!)
    wait_for goes_on
    epoch=$(epoch_now)
    quiet >quiet.before
    for round in $(seq "$(rounds 1 1)"); do
        for jump in +86400 -86400 +3600 -3600 +31536000 -31536000 +7 -7; do
            shuffle m1 n1 n2 m2 n3 client
            for who in "${shuffled[@]:0:3}"; do
                set_clock "$who" "$jump"
                jumps=$((jumps + 1))
            done
            pause 300
            before=$(lines)
            wait_for goes_on
            wait_for all_up
        done
    done
    random 2000000 >late
    { head -c 1000000 late; set_clock client -7200; pause 300; tail -c 1000000 late; } |
        dfs -q -u /late -
    same /late late
    quiet >quiet.after
    diff quiet.before quiet.after
    [ "$(epoch_now)" = "$epoch" ]
    echo "$jumps jumps, $(lines) files meanwhile"
    crash m1 n1 # what starts again has a clock of yesterday, and knows tomorrow's records
    for who in m1 n1 client; do set_clock "$who" -86400; done
    again m1 n1
    before=$(lines)
    wait_for goes_on
    touch halt
    wait "${jobs[@]}"
    not cat write.failed
    not cat read.failed
    [ "$(cut -c1-10 n1.err | sort -u | wc -l)" -gt 1 ] # the clocks did jump
    settled 3
    writers_kept
    wait_for agreed
}

# a node's disk hangs, or the whole node: writes and reads wait little longer than dead-after, it leaves once and does
# not come and go, and is taken back when it goes on
test_hangs() {
    local how round bound worst=0 left f
    need jq python3
    disks n2
    export DFS_PING=50ms DFS_DEAD_AFTER=1s
    [ "$slow" = 1 ] || fast
    bound=$((${DFS_DEAD_AFTER%s} * 1000 + 6000 * slow)) # it must not be one of our time-outs for what is slow
    cluster 3
    random 20000000 >large
    dfs -q -u /large large
    wait_for held_by /large n1 n2 n3
    hang() { if [ "$1" = disk ]; then fsfreeze -f n2; else kill -STOP "${PID[n2]}"; fi; }
    go_on() { if [ "$1" = disk ]; then fsfreeze -u n2; else kill -CONT "${PID[n2]}"; fi; }
    in_time() { # COMMAND...: it works, within the bound
        local begun
        begun=$(ms_now)
        "$@"
        begun=$(($(ms_now) - begun))
        [ "$begun" -le "$worst" ] || worst=$begun
        [ "$begun" -le "$bound" ] || die "the $how hangs: $begun ms for $*"
    }
    rosters() { grep -cE 'node n2 (is down|acknowledges nothing|joined)' m.err; }
    for round in $(seq "$(rounds 1 1)"); do
        for how in disk node; do
            worst=0
            random 20000000 >"large.$how"
            in_time dfs -q -u "/$how.$round/during" "large.$how" & # it hangs in the middle of this one
            f=$!
            pause 100
            hang "$how"
            random 1000 >small
            in_time dfs -q -u "/$how.$round/small" small
            wait "$f"
            wait_for roster_is 2
            left=$(rosters)
            for f in 1 2 3; do
                random $((f * 2000000)) >f
                in_time dfs -q -u "/$how.$round/$f" f
                in_time same "/$how.$round/$f" f
                in_time same /large large
                pause 1000
            done
            [ "$(rosters)" = "$left" ] || die "the $how hangs, and it comes and goes"
            roster_is 2
            state degraded
            echo "$how: at most $worst ms"
            go_on "$how"
            wait_for roster_is 3
            wait_for state healthy
            [ "$(rosters)" -le $((left + 1)) ]
            wait_for held_by "/$how.$round/3" n1 n2 n3
            same "/$how.$round/during" "large.$how"
            same "/$how.$round/small" small
            same "/$how.$round/3" f
            wait_for agreed
        done
    done
}

# an idle server below 3 MiB; 100,000 files cost the master less than 300 bytes each
test_memory() {
    local who before each count=30000
    plain
    [ -z "$long" ] || count=100000
    cluster 3
    for who in m n1 n2 n3; do
        echo "$who idle: $(rss_kb "${PID[$who]}") KiB"
        [ "$(rss_kb "${PID[$who]}")" -lt 3072 ]
    done
    dfs --bench up --files 20000 --size 100 # the master's history is full then
    before=$(rss_kb "${PID[m]}")
    dfs --mv /bench /before
    dfs --bench up --files "$count" --size 100
    wait_for state healthy
    each=$((($(rss_kb "${PID[m]}") - before) * 1024 / count))
    echo "$each bytes per file in the master"
    [ "$each" -lt 300 ]
    stop m
    master m "$DFS_MASTER"
    settled 3
    each=$(((($(rss_kb "${PID[m]}") - before) * 1024 + (4 << 20)) / count)) # without the history
    echo "$each bytes per file after a restart"
    [ "$each" -lt 300 ]
    [ "$(status | awk '$1 == "files" {print $2}')" = $((count + 20000)) ]
}

# what reads bytes from elsewhere, with what clang's fuzzer makes up
test_fuzz() {
    plain
    need clang
    echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d && n > 1000000; }' >empty.c
    clang -fsanitize=fuzzer,address,undefined empty.c -o empty 2>/dev/null || skip "clang lacks its libclang-rt"
    clang -g -O0 -fsanitize=fuzzer,address,undefined -DDFS_FUZZ "$here/dfs.c" -o fuzz -pthread
    mkdir corpus
    ./fuzz -seed="$seed" -max_total_time="$(rounds 15 15)" -max_len=20000 -rss_limit_mb=1000 corpus >fuzz.err 2>&1
    tail -n 2 fuzz.err
}

# dfs --fault: every kind does what it says, and only where the master allows it
test_on_purpose() {
    local chunk since
    fast
    cluster 3
    fails 7 --fault n1 pause
    stop m
    master m "$DFS_MASTER" --allow-faults
    settled 3
    random 200000 >f
    dfs -q -u /f f
    wait_for held_by /f n1 n2 n3
    for args in 'n4 pause' 'n1 nonsense' 'n1 slow' 'n1 slow x' 'n1 pause 7' 'n1 corrupt 12' 'n1'; do
        # shellcheck disable=SC2086
        fails '2|6|64' --fault $args
    done
    dfs --fault n1 pause
    wait_for node_is n1 down
    dfs -q -u /while-paused f
    same /while-paused f
    dfs --fault n1 none
    settled 3
    wait_for held_by /while-paused n1 n2 n3

    dfs --fault n2 slow 100
    since=$(date +%s%N)
    dfs -q -u /slow f # its records wait for n2
    [ $((($(date +%s%N) - since) / 1000000)) -ge 100 ]
    dfs --fault "${ADDR[n2]}" none

    chunk=$(sha <f)
    dfs --fault n3 corrupt "$chunk"
    found() { same /f f && log_says m "chunk $chunk.* was damaged"; }
    wait_for found # any of the three may be asked
    wait_for held_by /f n1 n2 n3
    fails 2 --fault n3 corrupt "${chunk//[0-9]/0}"

    dfs --fault n1 full
    told() { dfs --nodes -j | jq -e '.nodes | any(.name == "n1" and .free == 0)'; }
    wait_for told
    random 200001 >f2
    dfs -q -u /full f2
    not held_by /full n1
    dfs --fault n1 none
    wait_for held_by /full n1 n2 n3

    dfs --fault n1 drop-from "$DFS_MASTER"
    wait_for node_is n1 down
    dfs -q -u /dropped f
    dfs --fault "${ADDR[n1]}" none
    settled 3

    dfs --fault n2 fail-sync
    dfs -q -u /failed f2
    wait_for node_is n2 failed
    dfs --fault n2 none
    node_is n2 failed # once failed is failed
    crash n2
    node n2
    settled 3
    wait_for held_by /failed n1 n2 n3
    same /failed f2
}

# --scrub finds what is damaged on one node, which is healed, and on all, which is named until it is uploaded again
test_scrub() {
    local chunk who
    need jq
    fast
    DFS_ALLOW_FAULTS=1 cluster 3
    random 9000000 >f
    random 3000 >g
    dfs -q -u /a/f f
    dfs -q -u "/a/b c" g
    for who in /a/f "/a/b c"; do wait_for held_by "$who" n1 n2 n3; done
    chunk=$(sha <g)
    dfs --scrub >out
    [ "$(grep -c ' 0 damaged chunks$' out)" = 3 ]
    dfs --scrub -j | jq -e 'length == 3 and all(.[]; .bytes >= 9000000 and .damaged == 0)'
    dfs --fault n2 corrupt "$chunk"
    fails 11 --scrub n2
    grep -q 'n2 .* 1 damaged chunks$' fails.out
    wait_for held_by "/a/b c" n1 n2 n3
    log_says m "node n2: chunk $chunk of /a/b%20c was damaged"
    dfs --scrub n2 | grep >/dev/null ' 0 damaged chunks$'
    dfs --stat -j "/a/b c" | jq -e '.checked > 1700000000'
    for who in n1 n2 n3; do dfs --fault "$who" corrupt "$chunk"; done
    fails 11 --scrub
    fails 11 -d "/a/b c" got
    grep -q "/a/b c" fails.text
    [ ! -e got ]
    status | grep >/dev/null -x 'lost  *.a/b%20c'
    crash m n1 n2 n3 # they remember
    again m n1 n2 n3
    wait_for is_up 3
    lost() { status | grep >/dev/null -x 'lost  *.a/b%20c'; }
    wait_for lost
    fails 11 -d "/a/b c" got
    same /a/f f
    dfs -q -u "/a/b c" g
    settled 3
    not lost
    same "/a/b c" g
}

# a node's directory without a server: --fsck, --repair, --extract
test_rescue() {
    local segment
    need jq python3
    fast
    cluster 2
    random 9000000 >f
    random 700 >g
    dfs -q -u "/a/b c/f" f
    dfs -q -u /g g
    dfs -q -u /old g
    dfs --mv /old "/a/new name"
    wait_for held_by "/a/b c/f" n1 n2
    fails 3 --fsck n1
    fails 3 --extract n1 out
    crash m n1 n2
    find n1 -type f -exec sha256sum {} + | sort >before
    dfs --fsck n1 >out1
    grep -q '^clean: node n1, 3 files' out1
    dfs --fsck n1 -j | jq -e '.result == "clean" and .files == 3 and .missing_chunks == 0'
    dfs --extract n1 out
    cmp out/g g
    cmp "out/a/new name" g
    cmp "out/a/b c/f" f
    [ "$(stat -c %Y out/g)" -le "$(date +%s)" ]
    fails 3 --extract n1 out
    fails 2 --fsck nothing
    fails 64 --fsck
    find n1 -type f -exec sha256sum {} + | sort | diff before - # nothing was changed
    segment=$(find n1/log -type f -size +1M | head -n 1)
    python3 -c "
import sys
with open(sys.argv[1], 'r+b') as f:
    f.seek(1000000)
    byte = f.read(1)
    f.seek(1000000)
    f.write(bytes([byte[0] ^ 1]))" "$segment"
    fails 11 --fsck n1
    grep -q "^$segment, byte [0-9]*: a" fails.out
    fails 11 --extract n1 part
    grep -q '^/a/b c/f: 1 of 3 chunks' fails.out
    [ -e "part/a/b c/f.incomplete" ]
    cmp part/g g
    fails 11 --fsck --repair n1
    again m n1 n2
    settled 2
    wait_for held_by "/a/b c/f" n1 n2
    stop m n1 n2
    dfs --fsck n1 | grep >/dev/null '^clean'
}

# a directory that the first released format's program wrote is read; what is newer is refused with words
test_format() {
    local hash path segment
    # .ci/format1.tar.gz was made so: nodes n1 (--segment-size 64K) and n2, master --allow-faults --grace 300ms
    # --trash-time 0s; -u of files of 0 bytes to 200 KB, some with --chunk-size 8K or 16K, into folders, some twice;
    # -u of 700 KB, --rm of it: a checkpoint, segments go; -u of 95 KB, --rm; again 700 KB, --rm: a second checkpoint,
    # with notes; -u of 90 KB, --rm: a DROP; --mv; --mkdir; --fault n1 corrupt, VERIFY: an ASIDE; the master anew with
    # --grace 10m --trash-time 3650d; --rm of a file and a folder, -u over a file: the trash; n1 anew, n2 stopped; -u;
    # kill -9 of both. Beside n1: key; list (sha256sum) and times (find -printf '%T@  %P\n') of what was uploaded;
    # trash: of what was removed
    need python3
    fast
    tar -xzf "$here/.ci/format1.tar.gz"
    cd format1
    unchanged() { find n1 -type f -exec sha256sum {} + | sort | diff before -; }
    find n1 -type f -exec sha256sum {} + | sort >before
    dfs --fsck n1 >out1
    grep -q '^clean: node n1, 11 files, 35 chunks, 0 damaged, 0 missing, last record 2.32$' out1
    dfs --extract n1 out
    listed() { # FOLDER: all that was uploaded is there
        (cd "$1" && find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum) | diff list -
    }
    listed out
    (cd out && find . -type f -printf '%T@  %P\n') | sort -k 2 | diff <(sort -k 2 times) -
    [ -d out/d/nothing ] && [ ! -e out/d/gone ]
    unchanged

    cp -a n1 zeros # a crash before a table of contents was made the end of its file
    segment=zeros/log/0/0/0/0/0/e
    truncate -s +4096 "$segment"
    dfs --fsck zeros | grep >/dev/null '^clean'
    printf x | dd "of=$segment" bs=1 seek=5000 conv=notrunc status=none
    fails 4 --fsck zeros
    grep -q "^$segment, byte [0-9]*: a damaged chunk" fails.out

    export DFS_KEY_FILE=$PWD/key DFS_TRASH_TIME=3650d
    segment=n1/log/0/0/0/0/1/1
    cp -a n1 newer
    cp -a n1 mixed
    sed -i 's/"format": 1,/"format": 2,/' newer/node.json
    cp -a newer same
    for path in "--fsck newer" "--extract newer out2" "node newer -m 127.0.0.1:1 -l 127.0.0.1:0"; do
        # shellcheck disable=SC2086 # words
        fails 6 $path
        grep -q 'newer/node.json has format 2, this program knows up to 1; use a newer dfs' fails.text
    done
    diff -r same newer
    not test -e out2
    python3 - "mixed/${segment#*/}" <<'EOF' # its first line says 2, and its check is right
import hashlib, sys
with open(sys.argv[1], "r+b") as f:
    words = f.readline().split(b" ")
    assert words[1] == b"1"
    words[1], words[7] = b"2", b""
    line = b" ".join(words)
    check = hashlib.sha256(bytes.fromhex(words[6].decode()) + words[4] + b".0 " + line).hexdigest()[:16]
    f.seek(0)
    f.write(line + check.encode())
EOF
    cp -a mixed same2
    for path in "--fsck mixed" "--extract mixed out2" "node mixed -m 127.0.0.1:1 -l 127.0.0.1:0"; do
        # shellcheck disable=SC2086
        fails 6 $path
        grep -q 'segment .* has format 2, this program knows up to 1; use a newer dfs' fails.text
    done
    diff -r same2 mixed
    not test -e out2

    master
    export DFS_MASTER=${ADDR[m]}
    node n1
    wait_for current # not healthy: n2 is not there
    status | grep >/dev/null '^files  *11$'
    mkdir got
    while read -r hash path; do
        mkdir -p "got/$(dirname "$path")"
        dfs -q -d "/$path" "got/$path"
    done <list
    listed got
    dfs --ls /d | grep >/dev/null nothing/
    dfs --undelete /removed
    [ "$(dfs -q -d /removed - | sha)" = "$(cut -d' ' -f1 trash)" ]
    random 100000 >f
    dfs -q -u /new f
    same /new f
    stop n1
    again n1
    wait_for current
    same /new f
    same /one out/one
    stop m n1
    dfs --fsck n1 | grep >/dev/null '^clean: node n1, 13 files'
}

# what the program says of itself and what the manuals say are the same
test_help() {
    local who row code bad=''
    need python3
    cluster 1
    cat "$here/README.md" "$here"/docs/*.md >manuals
    complain() { bad=1; echo "$1"; }
    for who in m n1; do
        python3 "$here/.ci/wire.py" help "${ADDR[$who]}" >"help.$who"
        [ "$(wc -l <"help.$who")" -gt 10 ]
    done
    sed 's/  .*//' help.m help.n1 | sort -u >verbs
    while read -r row; do # each verb, with its arguments
        grep -qwF -e "$row" "$here/docs/PROTOCOL.md" || complain "'$row' is not in docs/PROTOCOL.md"
    done <verbs
    while read -r row; do
        grep -q "^$row\( \|\$\)" verbs || complain "docs/PROTOCOL.md has a verb $row, HELP has none"
    done < <(sed -nE 's/^#+ .*`([A-Z]+)[ `].*/\1/p; s/^#+ ([A-Z]{3,})$/\1/p' "$here/docs/PROTOCOL.md")
    dfs --help all >help
    while read -r row; do
        grep -qF -e "$row" manuals || complain "the option $row is in no manual"
    done < <(sed -nE 's/^ +(-[a-z], )?(--[a-z-]+).*/\2/p' help)
    while read -r row; do
        grep -qF -e "$row" help || complain "the manuals name $row, --help does not"
    done < <(sed -E 's/no `--[a-z-]+`//g' manuals | grep -oE '`(dfs |--)[^`]*`|^ +dfs .*' |
        grep -oE -- '(^|[ `])--[a-z][a-z-]+' | tr -d ' `' | sort -u)
    sed -n 's/.*Exit codes: //; T; s/\.$//; s/; /\n/g; p' help >codes
    [ "$(wc -l <codes)" = 15 ]
    while read -r code row; do
        grep -qF "| $code | $row |" "$here/README.md" || complain "exit code $code is not '$row' in README.md"
        [ "$code" = 64 ] || grep -q "| $code |" "$here/docs/PROTOCOL.md" || complain "PROTOCOL.md lacks the code $code"
    done <codes
    [ -z "$bad" ]
}

# the first write to a node's disk fails, then the second, and so on; the same for syncs: nothing acknowledged is lost
test_faults() {
    local kind n last path code name
    export DFS_PING=50ms DFS_DEAD_AFTER=400ms
    [ "$slow" = 1 ] || fast
    faulty() { ended n1 || log_says n1 'STORE FAILED'; }
    put() { # PATH: uploads f; true if it was acknowledged before the fault
        local upload
        timeout 30 "$DFS" -q -u "$1" f 2>>client.err &
        upload=$!
        wait_for client_or_fault "$upload"
        faulty 2>/dev/null && kill "$upload" 2>/dev/null
        wait "$upload"
    }
    client_or_fault() { ! kill -0 "$1" || grep -q '^State:.Z' "/proc/$1/status" || faulty; }
    cluster 1
    random 300000 >f
    dfs -q -u /first f
    echo "$(sha <f) /first" >kept
    stop n1
    last=$(rounds 24 8)
    for kind in write sync; do
        for ((n = 1; n <= last; n++)); do
            : >n1.err
            code=0
            DFS_FAULT=$kind:$n node n1 || code=$?
            for path in small large again; do
                [ "$code" = 0 ] || break # it did not even start
                case $path in small) random 1000 >f ;; *) random 300000 >f ;; esac
                if put "/$kind$n/$path"; then echo "$(sha <f) /$kind$n/$path" >>kept; fi
                if faulty; then code=1; fi
            done
            [ -z "${PID[n1]:-}" ] || crash n1
            [ "$code" != 0 ] || break # this run saw no fault
        done
        echo "$kind: $((n - 1)) places"
        [ "$n" -gt 4 ]
        [ "$n" -le "$last" ] || [ "$slow" != 1 ] || die "after $last rounds there are still faults"
        node n1
        wait_for dfs -q -u /up f
        settled 1
        while read -r code name; do
            [ "$(dfs -q -d "$name" - | sha)" = "$code" ] || die "$name was acknowledged and is lost"
        done <kept
        stop n1
    done
    echo "$(wc -l <kept) uploads were acknowledged"
    node n1
    wait_for dfs -q -u /last f
    same /last f
}

# many requests, failed ones too, leave no descriptor open and no thread behind
test_descriptors() {
    local i who
    declare -A open=() threads=()
    some() {
        for i in $(seq "$1"); do
            dfs -q -u /f f
            dfs -q -d /f - | cmp - f
            dfs -q -d /f - | head -c 100000 >/dev/null || true
            status >/dev/null
            timeout 0.05 "$DFS" -q -u /cut big 2>>client.err || true
            timeout 0.05 "$DFS" -q -d /big - >/dev/null 2>>client.err || true
        done
        wait_for state healthy
    }
    cluster 3
    random 5000000 >f
    random 50000000 >big
    dfs -q -u /big big
    some 5
    for who in m n1 n2 n3; do
        open[$who]=$(files_open "${PID[$who]}") threads[$who]=$(count_threads "${PID[$who]}")
    done
    some "$(rounds 20 5)"
    for who in m n1 n2 n3; do
        as_before() {
            [ "$(files_open "${PID[$who]}")" -le $((${open[$who]} + 12)) ] &&
                [ "$(count_threads "${PID[$who]}")" -le $((${threads[$who]} + 8)) ]
        }
        wait_for as_before
    done
}

trash() { dfs --undelete -j | jq -r '.[].path' | sort | xargs; } # the paths in the trash
trash_is() { [ "$(trash)" = "$*" ]; }
holds() { [ "$(python3 "$here/.ci/wire.py" verify "${ADDR[$1]}" "$2")" = good ]; } # NODE SHA256: a chunk
dropped() { # SHA256: no node that runs has this chunk
    local who
    for who in "${!PID[@]}"; do
        [[ $who != n* ]] || [ "$(python3 "$here/.ci/wire.py" verify "${ADDR[$who]}" "$1")" = absent ] || return 1
    done
}

# what is removed or overwritten can be taken back, files and trees, until --trash-time is over; all survives restarts
test_trash() {
    local v label hour all=(m n1 n2 n3) who
    need jq python3
    fast
    export DFS_TRASH_TIME=1h DFS_GRACE=300ms
    cluster 3
    for v in 1 2 3 4; do random $((v * 100000)) >"v$v"; done
    dfs -q -u /d/e/x v1
    dfs -q -u /d/e/y v2
    dfs -q -u /d/f v3
    trash_is
    dfs --rm /d/f
    fails 2 --stat /d/f
    fails 2 -d /d/f got
    hour=$(($(date +%s) + 3600))
    dfs --undelete -j | jq -e --argjson hour "$hour" 'length == 1 and (.[0] | .path == "/d/f" and .kind == "file" and
        .size == 300000 and .expires > $hour - 100 and .expires <= $hour + 100)'
    dfs --undelete | grep >/dev/null -E ' until 20[0-9-]+ [0-9:]+.* /d/f$'
    status -j | jq -e '.files == 2 and .bytes == 300000' # the trash does not count
    not grep -w f <<<"$(dfs --ls /d)"
    dfs --undelete /d/f
    same /d/f v3
    trash_is

    for v in 1 2 3; do dfs -q -u /v "v$v"; done # the newest comes first, and changes places with what is there
    trash_is /v /v
    dfs --undelete /v
    same /v v2
    dfs --undelete /v
    same /v v3
    dfs --rm /v
    dfs --undelete /v
    same /v v3
    trash_is /v /v
    dfs -q -u /w v4
    dfs --mv /w /v # in place of it
    trash_is /v /v /v
    dfs --undelete /v
    same /v v3

    dfs --rm /d/e/x /d/e/y /d/e /d/f # a tree, with what was in it when it went
    trash_is /d/e /d/e/x /d/e/y /d/f /v /v /v
    fails 3 --mkdir /d
    dfs --undelete /d/e
    same /d/e/x v1
    same /d/e/y v2
    trash_is /d/f /v /v /v
    dfs --rm /d/e/x /d/e/y /d/e /d
    dfs --undelete /d/e/y # what it was in comes with it, and no more
    same /d/e/y v2
    fails 2 --stat /d/e/x
    dfs -q -u /d/f v4
    dfs --rm /d/e/y
    dfs --undelete /d/e
    same /d/e/x v1
    same /d/e/y v2
    dfs --rm /d/e/x /d/e/y /d/e
    dfs --undelete /d # what has a new version stays as it is
    same /d/e/x v1
    same /d/f v4
    trash_is /d/f /v /v /v
    dfs --undelete /d/f
    same /d/f v3
    dfs --rm /d/f
    dfs --mv /d /moved # what was in a directory stays bound to it
    trash_is /moved/f /moved/f /v /v /v
    fails 2 --undelete /d/f
    dfs --undelete /moved/f
    same /moved/f v3
    dfs --rm /moved/e/x
    dfs -q -u /moved/e2 v1
    dfs --mv /moved/e /moved/e3
    fails 9 --undelete /moved/e2/x
    fails 2 --undelete /none
    fails 2 --undelete /moved/e3/y
    fails 2 --undelete /moved/e2
    fails 6 --undelete /../x
    dfs --undelete /moved/e3
    same /moved/e3/x v1
    dfs --undelete -j /v | jq -e 'length == 1 and .[0].result == "ok"'
    same /v v4

    label=$(printf '%0251d' 7)$'-\t %' # a long name, and one that needs care
    for v in 1 2; do dfs -q -u "/$label" "v$v"; done
    dfs -q -u /hour v1
    dfs --mkdir /folder
    dfs --rm "/$label" /moved/e3/y /hour /folder
    dfs --undelete -j | jq -e --arg path "/$label" '[.[] | select(.path == $path)] | length == 2'
    dfs --undelete >listed
    for who in stop crash; do # all from the logs; a new node gets the trash too
        "$who" "${all[@]}"
        again n1 n2 n3
        DFS_TRASH_TIME=2s again m
        [ "$who" = stop ] || node n4
        settled $(("${#PID[@]}" - 1))
        dfs --undelete | cmp - listed
        wait_for agreed
    done
    dfs --undelete "/$label"
    same "/$label" v2
    dfs --undelete "/$label"
    same "/$label" v1
    dfs --undelete /moved/e3/y
    same /moved/e3/y v2

    random 500000 >once
    dfs -q -u /once once
    wait_for held_by /once n1 n2 n3 n4
    dfs --rm /once
    dfs --undelete | grep >/dev/null '/once$'
    gone() { not grep -q '/once$' <<<"$(dfs --undelete)"; }
    wait_for gone
    fails 2 --undelete /once
    wait_for dropped "$(sha <once)" # and now its bytes go too
    grep -q '/hour$' <<<"$(dfs --undelete)" # from when it was an hour
    stop m
    DFS_TRASH_TIME=0s again m
    settled 4
    dfs -q -u /never once
    dfs -q -u /never v1
    dfs --rm /never
    gone
    not grep never <<<"$(dfs --undelete)"
    fails 2 --undelete /never
    wait_for agreed
}

# One of those who fill the disks: writes files, over others too, reads and removes them, until MEGABYTES were sent.
# Each ends well, or there is no room just now, and then nothing has changed; else it is in churn.failed.
churn() { # WORKER MEGABYTES
    local sent=0 full=0 most=0 since=0 code f i=0 size
    declare -A is=()
    while [ "$sent" -lt $(($2 << 20)) ] && [ ! -e churn.failed ]; do
        i=$((i + 1)) f=$((RANDOM % 8)) code=0
        if [ $((RANDOM % 4)) != 0 ] || [ -z "${is[$f]:-}" ]; then
            size=$((RANDOM % 5)) # 3 MB in the middle
            size=$((size == 0 ? RANDOM % 70000 : size * (RANDOM * 40 + 1000)))
            head -c "$size" /dev/urandom >"churn.$1"
            "$DFS" -q -u "/churn/$1.$f" "churn.$1" 2>"said.$1" || code=$?
            case $code in
            0) is[$f]=$(sha <"churn.$1") sent=$((sent + size)) since=0 ;;
            10)
                full=$((full + 1))
                [ "$since" != 0 ] || since=$SECONDS
                [ "$most" -ge $((SECONDS - since)) ] || most=$((SECONDS - since))
                grep -qE 'full|room|space' "said.$1" || code=mute
                [ $((SECONDS - since)) -lt $((90 * slow)) ] || code='10 for long'
                pause 500
                ;;
            esac
        elif [ $((RANDOM % 2)) = 0 ]; then
            "$DFS" --rm "/churn/$1.$f" >/dev/null 2>"said.$1" || code=$?
            [ "$code" != 0 ] || is[$f]=''
        fi
        [ "$code" = 10 ] || [ "$code" = 0 ] || echo "$1, step $i: exit code $code: $(cat "said.$1")" >>churn.failed
        f=$((RANDOM % 8))
        [ -n "${is[$f]:-}" ] || continue
        [ "$("$DFS" -q -d "/churn/$1.$f" - 2>"said.$1" | sha)" = "${is[$f]}" ] ||
            echo "$1, step $i: /churn/$1.$f is not what it was: $(cat "said.$1")" >>churn.failed
    done
    for f in "${!is[@]}"; do echo "${is[$f]:-gone} /churn/$1.$f"; done >"churned.$1"
    echo "worker $1: $i steps, $((sent >> 20)) MiB; no room $full times, for $most s at most"
}
churned_are() { # all files are what the workers left, and no other is there
    local hash path
    cat churned.* | while read -r hash path; do
        if [ "$hash" = gone ]; then fails 2 --stat "$path"
        elif [ "$(dfs -q -d "$path" - | sha)" != "$hash" ]; then die "$path is not what it was"; fi
    done
    [ "$(dfs --ls /churn | wc -l)" = "$(cat churned.* | grep -vc ^gone)" ]
}
in_order() { # NODE...: what they say since their start is no complaint
    local who
    for who; do not grep -E 'DAMAGED|records are damaged|STORE FAILED' "$who.err" || return 1; done
}
used_mb() { df -B1M --output=used "$1" | tail -n 1; }
gave_back() { # MEGABYTES: no disk has more than this in use
    local who
    for who in n1 n2 n3; do [ "$(used_mb "$who")" -le "$1" ] || return 1; done
}

# small disks take many times what is on them, are full and are so no more, while nodes are killed or lose their power
test_space() {
    local small=1 times=1 i=0 w code=0 who jobs=() round=0 begun=$SECONDS
    need jq python3
    disks n1 n2 n3
    sturdy
    export DFS_GRACE=1s DFS_TRASH_TIME=0s
    cluster 3
    random 4000000 >f
    while [ "$i" -lt 80 ]; do # until it is full
        { echo "$i" && cat f; } | timeout 90 "$DFS" -q -u "/full/$i" - 2>said || { code=$?; break; }
        i=$((i + 1))
    done
    cat said
    [ "$code" = 10 ] || die "exit code $code: $(cat said)"
    [ "$i" -gt 30 ] || die "full after $i files"
    grep -qE 'full|room|space' said
    in_order n1 n2 n3
    wait_for is_up 3
    dfs -q -d /full got
    for w in $(seq 0 $((i - 1))); do
        cmp <(echo "$w" && cat f) "got/$w" || die "/full/$w is not right"
    done
    rm -r got
    dfs --mkdir /a/b # metadata has room
    for w in $(seq 0 $((i - 1))); do dfs --rm "/full/$w"; done
    fits() { dfs -q -u /again f; }
    wait_for fits
    same /again f
    dfs --rm /again
    wait_for gave_back 60
    echo "full after $i files; given back after $((SECONDS - begun)) s"

    [ -z "$long" ] || times=20
    for w in 1 2 3; do churn "$w" $((times * 86)) & jobs+=($!); done
    working() { local w; for w in "${jobs[@]}"; do kill -0 "$w" 2>/dev/null || return 1; done; [ ! -e churn.failed ]; }
    while working; do
        round=$((round + 1)) who=n$((RANDOM % 3 + 1))
        for w in 1 2 3 4 5 6 7 8 9 10 11 12 13; do # each start of a node is a reason to drop nothing for a while
            ! working || pause $((2000 * slow))
        done
        [ $((RANDOM % 2)) = 0 ] || xfs_io -x -c shutdown "$who" # its power fails
        crash "$who"
        wait_for umount "$who"
        mount -o loop "$who.disk" "$who"
        dfs --fsck "$who" -j >fsck.json || true # perhaps it had not got all yet
        jq -e '.damaged_chunks == 0 and (.metadata_damaged | not)' fsck.json || die "round $round: $(cat fsck.json)"
        : >"$who.err"
        again "$who"
        wait_for roster_is 3
        in_order "$who" || die "round $round: $who does not start in good order"
    done
    wait "${jobs[@]}"
    not cat churn.failed
    echo "$round kills"
    settled 3
    churned_are
    wait_for agreed
    crash n1 n2 n3
    rm -f n?.err
    again n1 n2 n3
    settled 3
    in_order n1 n2 n3
    churned_are
    for f in $(dfs --ls -j /churn | jq -r '.[].name'); do dfs --rm "/churn/$f"; done
    wait_for gave_back 60
    in_order n1 n2 n3
    stop n1 n2 n3
    for who in n1 n2 n3; do dfs --fsck "$who"; done
}

# a bit of any field of a node's log is flipped, its tail cut, segments swapped or lost: named, and healed by the others
test_damage() {
    local chunk how kind field i f place said round=0 clean=0 variant live=()
    need jq python3
    fast
    export DFS_GRACE=300ms DFS_TRASH_TIME=0s
    cluster 2 --allow-faults
    victim() { DFS_SEGMENT_SIZE=1M "$@"; } # many segments
    damage() { python3 "$here/.ci/damage.py" "$@"; }
    random 30000 >f1
    random 3000000 >f2
    random 2500000 >f3
    dfs -q -u /d/f1 f1
    dfs -q -u /d/f2 f2 --chunk-size 300K
    victim node n3
    settled 3
    random 24000000 | dfs -q -u /bulk - --chunk-size 32K
    dfs --rm /bulk
    wait_for log_says n3 'checkpoint: '
    wait_for log_says n3 'gave back segment'
    random 2500000 | dfs -q -u /dropped - --chunk-size 300K
    dfs -q -u /d/f3 f3 --chunk-size 200K
    dfs --rm /dropped
    chunk=$(dfs --stat -j /d/f2 | jq -r '.chunks[0].sha256')
    dfs --fault n3 corrupt "$chunk"
    python3 "$here/.ci/wire.py" verify "${ADDR[n3]}" "$chunk"
    listed() { # all kinds of entries are there
        damage list n3 >kinds 2>said &&
            [ "$(grep -cE '^(aside|chunk|closed|drop|keep|promise|record|snapshot|toc) ' kinds)" = 9 ]
    }
    wait_for listed || { cat kinds said; return 1; }
    wait_for held_by /d/f2 n1 n2 n3
    stop m
    again m
    settled 3
    mapfile -t live < <(for f in f1 f2 f3; do dfs --stat -j "/d/$f" | jq -r '.chunks[].sha256'; done | sort -u)
    printf '%s\n' "${live[@]}" >live
    verified() { # all chunks of all files are right on the node
        python3 "$here/.ci/wire.py" verify "${ADDR[n3]}" "${live[@]}" | sort -u >verdict && [ "$(<verdict)" = good ]
    }
    verified
    stop n3
    cp -a n3 n3.closed
    victim again n3
    settled 3
    for f in 1 2 3; do dfs --mkdir "/e/$f"; done
    random 100000 | dfs -q -u /e/x -
    wait_for held_by /e/x n1 n2 n3
    crash n3
    wait_for roster_is 2
    cp -a n3 n3.open
    for variant in closed open; do
        damage list "n3.$variant" | xargs
        dfs --fsck "n3.$variant" >said || { cat said; die "n3.$variant is not in order"; }
    done

    harm() { # COMMAND...: n3 has a log that is damaged in this way
        place="$variant: $*"
        rm -rf n3
        cp -a "n3.$variant" n3
        said=$(damage "$@") || die "$place: damage.py fails"
        place+=" $said"
    }
    heals() { # must|check|may: --fsck and the node say, or only --fsck says, what happened to it; all comes right
        local code=0
        round=$((round + 1))
        "$DFS" --fsck n3 -j >fsck.json 2>>client.err || code=$?
        not crashed "$code" || die "$place: --fsck ended with $code"
        jq -e .problems fsck.json >/dev/null || die "$place: --fsck says nothing"
        [ "$code" != 0 ] || { clean=$((clean + 1)); echo "--fsck sees nothing: $place"; }
        [ "$code" != 0 ] || [ "$1" = may ] || echo "$place: --fsck sees nothing" >>unnamed
        : >n3.err
        victim again n3 || die "$place: it does not start: $(tail -n 2 n3.err)"
        wait_for roster_is 3 || die "$place: it does not come back"
        for f in f1 f2 f3; do same "/d/$f" "$f" || die "$place: $f"; done
        verified || wait_for verified || die "$place: $(sort verdict | uniq -c | xargs)"
        wait_for state healthy || die "$place: $(status | grep ^why)"
        wait_for agreed || die "$place: the trees differ"
        [ "$1" != must ] || grep -qE 'DAMAGED|damaged' n3.err || echo "$place: the node says nothing" >>unnamed
        if [ $((RANDOM % 4)) = 0 ]; then # healed is healed
            crash n3
            wait_for roster_is 2
            : >n3.err
            victim again n3
            wait_for roster_is 3
            not grep 'records are damaged' n3.err || die "$place: again at the next start"
            verified || die "$place: at the next start: $(sort verdict | uniq -c | xargs)"
        fi
        crash n3
        wait_for roster_is 2
    }
    for variant in closed open; do
        damage spots "n3.$variant" "$seed" live >spots
        grep -qE '^must ' spots
        echo "$(wc -l <spots) places"
        i=$(rounds 4 2)
        [ -z "$long" ] || i=1000
        shuf -n "$i" spots >chosen
        while read -r how kind field f i <&3; do
            harm flip "${f/n3.$variant/n3}" "$i" "$round"
            place="$variant $kind $field: $place"
            heals "$how"
        done 3<chosen
        for i in $(seq "$(rounds 1 1)"); do
            harm cut n3 $((i == 1 ? RANDOM % 40 + 1 : RANDOM % 3000 + 1))
            heals may
            for how in zero swap remove stranger; do # the normal run does half of them on each of the two
                [[ $long$variant.$how != @(closed.zero|closed.remove|open.swap|open.stranger) ]] || continue
                if [ "$how" = stranger ]; then
                    harm stranger n3 n2 "$RANDOM"
                    heals must
                else
                    harm "$how" n3 "$RANDOM"
                    heals may
                fi
            done
        done
    done
    for how in 0 1 half; do # it is not known whose directory this is
        rm -rf n3
        cp -a n3.closed n3
        i=$how
        [ "$how" != half ] || i=$(($(stat -c %s n3/node.json) / 2))
        truncate -s "$i" n3/node.json
        i=0
        : >n3.err
        victim again n3 || i=$?
        [ "$i" != 0 ] && not crashed "$i"
        grep -q 'node.json' n3.err
        fails '2|11' --fsck n3
    done
    rm -rf n3
    cp -a n3.closed n3
    victim again n3
    settled 3
    verified
    echo "$round rounds; --fsck saw nothing in $clean"
    not cat unnamed 2>/dev/null
}

slowly() { # SECONDS FILE: its bytes, in pieces, with as much time between
    python3 -c 'import sys, time
data = open(sys.argv[2], "rb").read()
for at in range(0, len(data), 150000):
    sys.stdout.buffer.write(data[at:at + 150000])
    sys.stdout.flush()
    time.sleep(float(sys.argv[1]))' "$@"
}
dropped_now() { python3 "$here/.ci/wire.py" status "${ADDR[m]}" | awk '$1 == "dropped_chunks" {print $2}'; }
drops_begin() { # a master drops nothing in its first seconds; waits until it does
    head -c 1000 /dev/urandom >first
    dfs -q -u /first first
    dfs --rm /first
    wait_for -t 90 dropped "$(sha <first)"
}

# chunks that nobody names any more go, not those of an upload that is open, of a download, or that come again just then
test_drops() {
    local w f code=0 slow_ones=() before piece
    need jq python3
    sturdy
    export DFS_GRACE=300ms DFS_TRASH_TIME=0s
    cluster 3 --allow-faults
    for f in a b c; do random 600000 >"$f"; done
    random 30000000 >big
    dfs -q -u /a a
    dfs -q -u /b b
    dfs -q -u /big big --chunk-size 64K
    wait_for held_by /a n1 n2 n3
    wait_for held_by /b n1 n2 n3
    crash n3 # it is not there when they are removed, and has to drop them when it is back
    wait_for roster_is 2
    dfs --rm /a
    drops_begin
    dropped "$(sha <a)"
    node n3
    settled 3
    wait_for dropped "$(sha <a)"

    before=$(dropped_now)
    for w in n1 n2 n3; do dfs --fault "$w" slow 100; done # time for something to happen between an order and its doing
    SLOW=$slow timeout $((300 * slow)) python3 "$here/.ci/wire.py" reuse "$DFS_MASTER" "$(rounds 12 12)"
    for w in n1 n2 n3; do dfs --fault "$w" none; done
    before=$(($(dropped_now) - before))
    echo "$before chunks were dropped meanwhile"
    [ "$before" -gt 20 ]

    piece=$(tail -c $((30000000 % 65536)) big | sha) # removed while it is read
    dfs -q -d /big - | { head -c 1000000; dfs --rm /big; wait_for dropped "$piece"; cat; } >got || code=$?
    [ "$code" != 0 ]
    part_of got big
    echo "the download of a file that was removed ended with $code, after $(stat -c %s got) bytes"

    for w in 1 2; do # what comes from a pipe is open for long; others come and go
        random 600000 >"slow.$w"
        slowly 2 "slow.$w" | dfs -q -u "/slow.$w" - --chunk-size 64K &
        slow_ones+=($!)
    done
    for w in 1 2 3 4; do
        dfs -q -u "/quick.$w" c
        dfs --rm "/quick.$w"
        pause 1000
    done
    wait "${slow_ones[@]}"
    for w in 1 2; do same "/slow.$w" "slow.$w"; done
    slowly 2 a | dfs -q -u /over - --chunk-size 64K & # the same while the master is killed
    w=$!
    begun_to_send() { holds n1 "$piece" || holds n2 "$piece" || holds n3 "$piece"; }
    piece=$(head -c 65536 a | sha)
    wait_for begun_to_send
    dfs --rm /b
    crash m
    again m
    wait "$w"
    settled 3
    drops_begin # what was removed before goes, too
    wait_for dropped "$(sha <b)"
    same /over a
    for w in 1 2; do same "/slow.$w" "slow.$w"; done
    wait_for held_by /over n1 n2 n3
    wait_for agreed
}

# after --force-from nothing is dropped until --allow-drops says so
test_forced_drops() {
    local id
    need jq python3
    fast
    export DFS_GRACE=300ms DFS_TRASH_TIME=0s
    cluster 3
    random 200000 >f
    random 300000 >g
    dfs -q -u /f f
    dfs -q -u /g g
    wait_for held_by /f n1 n2 n3
    wait_for held_by /g n1 n2 n3
    crash m n1 n2 n3
    node n3
    DFS_FORCE_FROM=n3 again m
    wait_for roster_is 1
    dfs --rm /f
    status | grep >/dev/null '^forced'
    not wait_for -t 22 dropped "$(sha <f)" 2>/dev/null
    again n1 # what these still have was not dropped either
    again n2
    settled 3
    dropped_now | grep >/dev/null -x 0
    for id in n1 n2 n3; do holds "$id" "$(sha <f)"; done
    stop m
    DFS_ALLOW_DROPS=1 again m
    settled 3
    wait_for -t 90 dropped "$(sha <f)"
    same /g g
    status | grep >/dev/null '^forced'
}

# a node that missed many changes gets the difference or a snapshot, whichever is less, while the cluster goes on
test_behind() {
    local count=16000 files=16000 name i begun before watch
    plain
    [ -z "$long" ] || count=100000 files=200000
    name=$(printf '%0230d' 7) # long names, so that the master soon forgets what was first
    export DFS_TRASH_TIME=0s
    export DFS_DEAD_AFTER=8s # how often it catches up is counted
    cluster 3
    dfs --bench up --files "$files" --size 0 --clients 8 >bench.out
    changes() { # N DIRECTORY: clients that make so many directories
        local at=0
        while [ "$at" -lt "$1" ]; do
            seq -f "/$2/%.0f.$name" "$at" $((at + 99)) | xargs "$DFS" --mkdir 2>>client.err
            at=$((at + 100))
        done
    }
    took() { grep -c 'took a snapshot' "$1.err" || true; }
    told() { grep -c "node $1 got [0-9]* records that it lacked" m.err || true; }
    caught_up() { [ "$(status -j | grep -o '"roster": [0-9]*' | grep -o '[0-9]*$')" = 3 ]; }

    crash n3
    wait_for roster_is 2
    before=$(took n3)
    changes $((count / 2)) a & # two clients at once
    changes $((count / 2)) b
    wait $!
    begun=$(ms_now)
    rm -f halt
    until [ -e halt ]; do dfs --mkdir "/meanwhile/$RANDOM$RANDOM" && echo . >>others; nap 20; done &
    watch=$!
    node n3
    wait_for -t 120 caught_up
    echo "$count changes behind: a member again after $(($(ms_now) - begun)) ms"
    : >halt
    wait "$watch"
    [ "$(wc -l <others)" -gt 3 ] || [ $(($(ms_now) - begun)) -lt 1000 ]
    grep "node n3 got" m.err
    [ "$(told n3)" = 1 ]
    [ "$(took n3)" = "$before" ]
    wait_for agreed

    crash n3 # the same with a take-over by a master that knows nothing of before
    wait_for roster_is 2
    changes 200 c
    crash m
    again m
    node n3
    wait_for -t 120 caught_up
    [ "$(told n3)" = 2 ]
    [ "$(took n3)" = "$before" ]

    crash n3 # more changes than there are files: the whole is less
    wait_for roster_is 2
    for i in $(seq $(((count + files) / 8000))); do
        dfs --bench up --files 10000 --size 0 --clients 8 >bench.out
    done
    node n3
    wait_for -t 120 caught_up
    [ "$(told n3)" = 2 ]
    [ "$(took n3)" = $((before + 1)) ]
    wait_for agreed
}

# with a million small files (25,000 in the normal run): upload, start of a node, take-over, memory for each
test_million() {
    local count=25000 who how begun ms
    plain
    need jq python3
    [ -z "$long" ] || count=1000000
    cluster 3
    dfs --bench up --files 1000 --size 100 >/dev/null
    declare -A before=()
    for who in m n1 n2 n3; do before[$who]=$(rss_kb "${PID[$who]}"); done
    begun=$(ms_now)
    timeout 1500 "$DFS" --bench up --files "$count" --size 100 2>>client.err
    ms=$(($(ms_now) - begun))
    echo "$count files up in $ms ms: $((count * 1000 / ms)) in a second"
    [ -z "$long" ] || [ $((count * 1000 / ms)) -gt 300 ]
    wait_for -t 300 state healthy
    each() { # WHEN
        local bytes
        for who in m n1; do
            bytes=$((($(rss_kb "${PID[$who]}") - ${before[$who]}) * 1024 / count))
            echo "$who: $bytes bytes for each file $1"
            [ "$bytes" -lt 600 ]
        done
    }
    each 'after the upload'
    for how in crash stop; do
        "$how" n1
        : >n1.err
        begun=$(ms_now)
        node n1
        ms=$(($(ms_now) - begun))
        echo "a node starts in $ms ms after $how: $(grep -o 'read in [0-9]* ms' n1.err)"
        [ -z "$long" ] || [ "$ms" -lt $((3000 + count / 50)) ]
        wait_for roster_is 3
        wait_for -t 300 state healthy
    done
    crash m
    begun=$(ms_now)
    master m "$DFS_MASTER"
    reigns() { status -j | jq -e '.reads == "current" and .roster == 3'; }
    wait_for -t 300 reigns
    ms=$(($(ms_now) - begun))
    echo "the master's successor reigns after $ms ms"
    [ -z "$long" ] || [ "$ms" -lt $((7000 + count / 50)) ]
    wait_for -t 300 state healthy
    each 'after the take-over'
    counted_all() { status -j | jq -e ".files == $count"; }
    wait_for counted_all
    dfs --bench down --files 5000 --size 100
    wait_for agreed
}

# when a disk is short of space the trash is emptied before its time, the oldest first; what was last is still there
test_trash_short() {
    local small=1 i last=60 full=0 code=0 listed oldest
    need jq python3
    disks n1 n2 n3
    fast
    export DFS_GRACE=300ms DFS_TRASH_TIME=1h
    cluster 3
    random 6000000 >f
    content() { { echo "$1" && cat f; }; }
    for i in $(seq "$last"); do # 360 MB in all, on disks of 256 MiB
        until content "$i" | "$DFS" -q -u "/f$((i % 3))" - 2>said || ! code=$?; do
            [ "$code" = 10 ] || die "file $i: exit code $code: $(cat said)"
            full=$((full + 1))
            [ "$full" -lt 200 ] || die "there is no room, though the trash takes it"
            pause 1000
        done
        date +%s >>written
        [ $((i % 5)) != 0 ] || dfs --rm "/f$((i % 3))"
    done
    listed=$(dfs --undelete -j | jq length)
    echo "$listed of $((last - 2)) are in the trash; no room $full times"
    grep -q 'short of space' m.err
    [ "$listed" -ge 3 ]
    [ "$listed" -lt 50 ]
    # of what went into the trash, later than the oldest that is left, all is there
    oldest=$(dfs --undelete -j | jq 'map(.expires) | min - 3600')
    [ "$(awk -v t="$((oldest + 3))" '$1 > t' written | wc -l)" -le $((listed + 3)) ]
    fails 2 --stat "/f$((last % 3))"
    dfs --undelete "/f$((last % 3))"
    [ "$(dfs -q -d "/f$((last % 3))" - | sha)" = "$(content "$last" | sha)" ]
    for i in 1 2; do
        [ "$(dfs -q -d "/f$(((last - i) % 3))" - | sha)" = "$(content $((last - i)) | sha)" ]
    done
    in_order n1 n2 n3
    wait_for agreed
}

# ---- Copies ----

# What the master says of who holds what: PATH NUMBER LENGTH NODE... for each chunk, in the file `layout`.
layout() { "${from[@]}" python3 "$here/.ci/wire.py" layout "$DFS_MASTER" "$@" >layout; }
copies_are() { # N [PATH]: of every chunk below PATH there are exactly so many copies, never two on one node
    layout "${2:-/}" && awk -v n="$1" '{for (i = 5; i <= NF; i++) if ($i == $(i - 1)) bad = 1}
        NF - 3 != n {bad = 1} END {exit bad || NR == 0}' layout
}
even() { # NODE...: by the layout these differ by at most 10 % or 2 MiB, twice what balance leaves; no other has any
    awk -v nodes="$*" '{for (i = 4; i <= NF; i++) {held[$i] += $3; all += $3}}
        END {count = split(nodes, n); most = 0; least = all
            for (i = 1; i <= count; i++) {
                h = held[n[i]]; delete held[n[i]]
                if (h > most) most = h
                if (h < least) least = h
            }
            for (other in held) exit 1
            apart = 0.1 * all / count
            exit all == 0 || most - least > (apart > 2097152 ? apart : 2097152)}' layout
}
stored_is() { # on the nodes' disks is what the layout says, and nothing else
    status -j | jq -r '.nodes[] | select(.state != "down") | "\(.name) \(.bytes)"' |
        awk 'NR == FNR {for (i = 4; i <= NF; i++) held[$i] += $3; next}
            held[$1] + 0 != $2 {print $1, $2, held[$1]; bad = 1} END {exit bad}' layout - >stored
}
laid_out() { copies_are "$1" && even "${@:2}" && stored_is; } # COPIES NODE...
balanced() { # COPIES NODE...: waits for that, and says what is not so
    wait_for laid_out "$@" && return
    awk '{for (i = 4; i <= NF; i++) held[$i] += $3; n[NF - 3]++}
        END {for (i in held) print i, held[i]; for (i in n) print n[i] " chunks with " i " copies"}' layout
    cat stored
    status
    return 1
}
sums_hold() { # PREFIX...: every file of the list `sums` below one of these is there, and what it was
    local path
    rm -rf held
    mkdir held
    dfs -q -d / held
    for path in "${@:-/}"; do grep -F " $path" sums; done | sed 's# /#  held/#' >sums.held
    sha256sum --quiet -c sums.held
    rm -r held
}
many() { # COUNT FOLDER: so many files of mixed sizes, 300 KB in the middle, by four clients; their sums into `sums`
    local i jobs=()
    mkdir -p many
    for i in $(seq 0 $(($1 - 1))); do
        case $((i % 20)) in
        0) random $((RANDOM * 100 + 2000000)) ;;
        [1-5]) random $((RANDOM * 20 + 1)) ;;
        *) random $((RANDOM + 1)) ;;
        esac >"many/$i"
    done
    for w in 0 1 2 3; do
        (for ((i = w; i < $1; i += 4)); do dfs -q -u "$2/$((i % 7))/$i" "many/$i" --chunk-size 512K; done) &
        jobs+=($!)
    done
    for w in "${jobs[@]}"; do wait "$w"; done
    (cd many && sha256sum -- *) | while read -r sum i; do echo "$sum $2/$((i % 7))/$i"; done >>sums
    rm -r many
}

# 1, 2, 3 copies and one on every node: exactly so many, balanced; nodes are added, drained, killed, come back
test_copies() {
    local count=100 n
    need jq python3
    sturdy
    [ "$slow" = 1 ] || count=60
    [ -z "$long" ] || count=1000
    export DFS_GRACE=1s DFS_TRASH_TIME=0s
    cluster 5 --copies 2
    many "$count" /many
    balanced 2 n1 n2 n3 n4 n5
    for n in 3 1 all 2; do
        dfs --copies "$n" /
        [ "$n" != all ] || n=5
        balanced "$n" n1 n2 n3 n4 n5
        wait_for state healthy
    done
    for n in 2 ${long:+1 3}; do
        dfs --copies "$n" /
        balanced "$n" n1 n2 n3 n4 n5
        node n6
        balanced "$n" n1 n2 n3 n4 n5 n6
        dfs --drain n2
        crash n2 # at once: it is safe to
        layout /
        awk -v n="$n" 'NF - 3 < n' layout >lacking
        not grep . lacking
        sums_hold /many/3
        balanced "$n" n1 n3 n4 n5 n6
        dfs --drain n2 --cancel
        crash n3
        if [ "$n" = 1 ]; then
            wait_for state degraded
        else
            balanced "$n" n1 n4 n5 n6
        fi
        node n2
        node n3
        balanced "$n" n1 n2 n3 n4 n5 n6
        wait_for state healthy
        dfs --drain n6
        stop n6
        wait_for node_is n6 down
        wait_for roster_is 5
        dfs --forget n6
        rm -r n6
        balanced "$n" n1 n2 n3 n4 n5
    done
    sums_hold /
    wait_for agreed
}

# how many copies a directory and a file say, what inherits it, what takes it along
test_numbers() {
    need jq python3
    fast
    export DFS_GRACE=500ms DFS_TRASH_TIME=0s
    cluster 4 --copies 2
    random 700000 >f
    random 700000 >g
    dfs --mkdir /three /one/two
    dfs --copies 3 /three
    dfs --copies 1 /one
    for n in /two /three/a /one/a /one/two/a /three/own; do
        random 700000 | tee >(sha >sum) | dfs -q -u "$n" -
        echo "$(cat sum) $n" >>sums
    done
    dfs --copies 4 /three/own
    wait_for copies_are 2 /two
    wait_for copies_are 3 /three/a
    wait_for copies_are 4 /three/own
    wait_for copies_are 1 /one
    dfs -q -u /three/own g # another content goes by the same number
    wait_for copies_are 4 /three/own
    dfs --copies - /three/own
    wait_for copies_are 3 /three
    dfs --copies all /three/own
    dfs --mv /three/own /one/own # it takes its own along
    dfs --mv /three/a /one/b # and what has none goes by where it is
    wait_for copies_are 4 /one/own
    wait_for copies_are 1 /one/b
    dfs --mv /one/two /two.d
    wait_for copies_are 2 /two.d
    dfs -q -u /one/same f
    dfs -q -u /three/same f # the same bytes: as many as the one wants that wants most
    wait_for copies_are 3 /one/same
    dfs --rm /three/same
    wait_for copies_are 1 /one/same
    stop m
    again m
    settled 4
    copies_are 4 /one/own
    random 700000 | dfs -q -u /one/late -
    wait_for copies_are 1 /one/late
    dfs --rm /one/own
    wait_for copies_are 1 /one
    fails 2 --copies 2 /none
    fails '6|64' --copies 0 /one
    fails '6|64' --copies 129 /one
    fails '6|64' --copies x /one
    fails 64 --copies 2
    dfs --copies 1 /
    wait_for copies_are 1 /two
    dfs --copies - /
    wait_for copies_are 4 /two
    wait_for agreed
}

patient() { # ARGS...: dfs, and again as long as nobody serves because the master is away
    local code
    while code=0 && { dfs "$@" || code=$?; } && [ "$code" = 1 ] && [ -e away ]; do pause 100; done
    return "$code"
}
# Readers and writers that go on until `halt`: each file that is written is read again, and some that were there. What
# fails is in load.failed; `load.W` counts, for worker W; what is kept is in the list `sums`.
load() { # WORKER
    local i=0 sum path
    until [ -e halt ]; do
        i=$((i + 1))
        random $((RANDOM * 10 + 1)) >"load.in.$1"
        sum=$(sha <"load.in.$1")
        if ! { patient -q -u "/load/$1.$i.new" "load.in.$1" && patient --mv "/load/$1.$i.new" "/load/$1.$i" &&
            [ "$(patient -q -d "/load/$1.$i" - | sha)" = "$sum" ]; }; then
            echo "worker $1, file $i" >>load.failed
            return
        fi
        echo "$sum /load/$1.$i" >>"load.sums.$1"
        read -r sum path < <(shuf -n 1 sums)
        [ "$(patient -q -d "$path" - | sha)" = "$sum" ] || { echo "worker $1 reads $path" >>load.failed; return; }
        echo "$i" >"load.$1"
        nap 50
    done
}
load_begin() { # WORKERS
    local w
    loaders=()
    for w in $(seq "$1"); do
        echo 0 >"load.$w"
        load "$w" &
        loaders+=($!)
    done
}
load_more() { # every worker gets on with it
    local w had
    had=$(cat load.?)
    for w in "${!loaders[@]}"; do wait_for load_moved $((w + 1)) "$(sed -n "$((w + 1))p" <<<"$had")"; done
    [ ! -e load.failed ]
}
load_moved() { [ "$(cat "load.$1")" -gt $(($2 + 2)) ] || [ -e load.failed ]; }
load_end() {
    touch halt
    wait "${loaders[@]}"
    not cat load.failed
    cat load.sums.* >>sums
    rm halt load.sums.*
}
event() { dfs --events | grep >/dev/null "$1"; }
copied_is() { status -j | jq -e ".copied_bytes $1"; }
fetched() { status -j | jq '[.nodes[].received_bytes] | add'; } # by all orders of this master, to balance too
clock_of() { # NODE: the last time it was lost, what the event says: whole after, noticed after, MiB, copied in; in ms
    local n='([0-9.]+)'
    dfs --events | sed -nE "s/.* node $1 is lost, whole again after $n s: noticed $n s, copied $n ([KMG]?i?B) in\
 $n s/\1 \2 \3 \4 \5/p" |
        tail -n 1 | awk '{u = $4 == "GiB" ? 1024 : $4 == "MiB" ? 1 : $4 == "KiB" ? 1 / 1024 : 0
            printf "%d %d %d %d\n", $1 * 1000, $2 * 1000, $3 * u, $5 * 1000}'
}

# nodes are killed under load, another during the repair; the clock tells the truth; who comes back in time is free
test_repair() {
    local begun ms said before count=80
    need jq python3
    sturdy
    [ "$slow" = 1 ] || count=40
    [ -z "$long" ] || count=2000
    export DFS_GRACE=1s DFS_TRASH_TIME=0s
    cluster 5 --copies 2
    many "$count" /many
    wait_for copies_are 2
    load_begin 2
    load_more
    begun=$(ms_now)
    crash n1
    wait_for event 'node n1 is lost, whole again'
    ms=$(($(ms_now) - begun))
    read -ra said < <(clock_of n1)
    echo "whole again after $ms ms by the stopwatch; by the clock after ${said[0]}: noticed ${said[1]}," \
        "copied ${said[2]} MiB in ${said[3]}"
    [ "${said[0]}" -le $((ms + 200)) ]
    [ "${said[0]}" -ge $((ms - 1500 * slow)) ]
    [ "${said[1]}" -lt $((1500 * slow)) ]
    [ "${said[2]}" -ge 2 ]
    ms=$((said[0] - said[1] - said[3]))
    [ "${ms#-}" -lt 200 ]
    load_more
    dfs --copies 3 /
    wait_for copies_are 3
    before=$(dfs --events | wc -l)
    crash n2
    repairing() { dfs --events | tail -n +$((before + 1)) | grep >/dev/null "repair of what was on node n2 begins"; }
    wait_for repairing
    crash n3 # while that goes on
    wait_for event 'node n2 is lost, whole again'
    wait_for event 'node n3 is lost, whole again'
    load_more
    wait_for copies_are 2 # of those that are left each has one
    before=$(fetched)
    again n1 n2 n3
    load_end
    settled 5
    wait_for copies_are 3
    wait_for stored_is
    sums_hold /
    wait_for agreed
}

# one of 5 nodes is killed while clients go on: whole again about as fast as the same bytes are copied and hashed here
test_whole() {
    local size=$((256 << 20)) i begun ms bytes reference said
    need jq python3
    [ -z "$long" ] || size=$((2 << 30))
    [ "$slow" = 1 ] || size=$((48 << 20))
    [ "$(df --output=avail -B1 . | tail -n 1)" -gt $((size * 5)) ] || skip "not enough space on this disk"
    export DFS_GRACE=1s DFS_TRASH_TIME=0s
    cluster 5 --copies 2
    for i in 1 2 3 4 5 6 7 8; do
        random $((size / 8)) | tee >(sha >sum) | dfs -q -u "/big/$i" -
        wait_for test -s sum
        echo "$(cat sum) /big/$i" >>sums
        rm sum
    done
    wait_for -t 300 copies_are 2
    settled 5
    bytes=$(status -j | jq '.nodes[] | select(.name == "n1") | .bytes')
    dfs -q -d /big/1 - >part
    random $((bytes / 2)) | tee half.1 >half.2
    sync half.1 half.2
    begun=$(ms_now) # the reference: so many bytes, by two processes, hashed on the way and synced
    for i in 1 2; do (tee "copy.$i" <"half.$i" | sha >"hash.$i" && sync "copy.$i") & said[i]=$!; done
    wait "${said[1]}" "${said[2]}"
    reference=$(($(ms_now) - begun))
    rm half.? copy.? part
    load_begin 1
    load_more
    begun=$(ms_now)
    crash n1
    wait_for -t 300 event 'node n1 is lost, whole again'
    ms=$(($(ms_now) - begun))
    read -ra said < <(clock_of n1)
    echo "lost $((bytes >> 20)) MiB, whole again after $ms ms by the stopwatch; by the clock after ${said[0]}:" \
        "noticed ${said[1]}, copied ${said[2]} MiB in ${said[3]}; locally the same takes $reference ms:" \
        "$((reference * 100 / (said[3] + 1))) %"
    [ "${said[0]}" -le $((ms + 300)) ]
    [ "${said[0]}" -ge $((ms - 3000 * slow)) ]
    [ "${said[1]}" -lt $((3500 * slow)) ]
    [ -z "$long" ] || [ $((said[3] * 80)) -le $((reference * 100)) ]
    load_more
    wait_for copies_are 2
    load_end
    crash n2
    wait_for event 'repair of what was on node n2 begins'
    crash n3 # while that goes on: what was on these two is away now
    wait_for node_is n3 down
    again n3
    wait_for -t 300 event 'node n2 is lost, .*whole again'
    wait_for -t 300 event 'node n3 \(was lost and is back\|is lost\), .*whole again'
    wait_for copies_are 2
    sums_hold /big
    again n1 n2
    settled 5
    wait_for -t 300 copies_are 2
    sums_hold /
}

# --repair-after holds a repair back, one that is back in time is not copied; a node that says goodbye is waited for
test_patience() {
    local begun ms before
    need jq python3
    sturdy
    export DFS_GRACE=1s DFS_TRASH_TIME=0s
    cluster 4 --copies 2 --repair-after 10s
    many 60 /many
    wait_for copies_are 2
    wait_for state healthy
    before=$(fetched)
    begun=$(ms_now)
    crash n1
    wait_for node_is n1 down
    status | grep >/dev/null '^why .*n1 is down.* waited for'
    again n1
    settled 4
    echo "back after $(($(ms_now) - begun)) ms: $(($(fetched) - before)) bytes copied"
    [ $(($(fetched) - before)) -lt 2000000 ]
    wait_for copies_are 2
    begun=$(ms_now)
    crash n3
    wait_for event 'node n3 is lost, whole again'
    ms=$(($(ms_now) - begun))
    echo "not back: whole after $ms ms"
    [ "$ms" -ge 10000 ]
    again n3
    settled 4
    wait_for copies_are 2
    stop m
    again m # now as it is when nothing is said
    settled 4
    stop n2 # says goodbye: it is waited for, for minutes
    wait_for node_is n2 down
    event 'node n2 is down: it was stopped'
    status | grep '^why .*n2 was stopped.* waited for'
    random 3000000 >new
    dfs -q -u /new new
    same /new new
    crash n3
    wait_for event 'repair of what was on node n3 begins'
    not event 'repair of what was on node n2'
    again n2
    settled_but() { is_up 3 && status -j | jq -e '.copies_missing == 0 and .unavailable_chunks == 0'; }
    wait_for settled_but
    again n3
    settled 4
    wait_for copies_are 2
    stop n1
    wait_for node_is n1 down
    dfs --forget n1 # it is waited for no longer
    wait_for event 'node n1 is lost, whole again'
    wait_for copies_are 2
    wait_for state healthy
    sums_hold /
    wait_for agreed
}

# --repair-rate is kept, each node for itself
test_rate() {
    local begun ms bytes rate=2097152
    need jq python3
    plain
    sturdy
    export DFS_GRACE=1s
    cluster 4 --copies 2 --repair-rate 2M
    for i in 1 2 3 4; do
        random 12000000 >f
        dfs -q -u "/f$i" f --chunk-size 256K
    done
    settled 4
    bytes=$(status -j | jq .copied_bytes)
    begun=$(ms_now)
    crash n1
    wait_for event 'node n1 is lost, whole again'
    ms=$(($(ms_now) - begun))
    bytes=$(($(status -j | jq .copied_bytes) - bytes))
    echo "$bytes bytes in $ms ms by three nodes"
    [ "$bytes" -gt 15000000 ]
    [ "$bytes" -lt $((rate * 3 * ms / 1000 + (3 << 20))) ] # an order ahead for each
    [ "$ms" -lt 30000 ]
    copies_are 2
}

# two of five are killed at once: with 3 copies nothing is lost; with 2 what both had is named, and back with one
test_two_lost() {
    local lost path sum count=100 files=0
    need jq python3
    sturdy
    export DFS_GRACE=1s
    cluster 5 --copies 3
    many "$count" /many
    wait_for copies_are 3
    wait_for state healthy
    crash n1 n2
    wait_for node_is n1 down
    wait_for node_is n2 down
    sums_hold /many/1 /many/2
    status -j | jq -e '.unavailable_chunks == 0 and .lost == []'
    wait_for copies_are 3
    sums_hold /many/3
    again n1 n2
    settled 5
    dfs --copies 2 /
    wait_for copies_are 2
    wait_for stored_is
    layout /
    awk '/ n4 n5$/ {print $1}' layout | sort -u >both
    crash n4 n5
    wait_for node_is n4 down
    wait_for node_is n5 down
    wait_for state degraded
    lost=$(status -j | jq -r '.lost[]' | sort)
    [ "$(wc -l <both)" -gt 0 ]
    [ "$(wc -l <<<"$lost")" = "$(head -n 20 both | wc -l)" ]
    [ -z "$(comm -23 - both <<<"$lost")" ]
    dfs --find '*' --copies-below 1 | sort | diff both -
    dfs --ls -r --copies-below 1 -j / | jq -r '.[].path' | sort | diff both -
    [ "$(status -j | jq .unavailable_chunks)" = "$(awk '/ n4 n5$/' layout | wc -l)" ]
    status | grep -E '^why +[0-9]+ chunks are on no live node'
    not "$DFS" --status >/dev/null 2>&1
    fails 4 -d "$(head -n 1 both)" got
    [ ! -e got ]
    while read -r sum path; do
        grep -qx "$path" both && continue
        files=$((files + 1))
        [ $((files % 5)) != 0 ] || [ "$(dfs -q -d "$path" - | sha)" = "$sum" ] || die "$path is not what it was"
    done <sums
    wait_for event 'node n4 is lost, but for what nobody holds all is whole again'
    again n5
    wait_for node_is n5 up
    available() { status -j | jq -e '.unavailable_chunks == 0 and .lost == []'; }
    wait_for available
    sums_hold /many/4
    wait_for copies_are 2
    again n4
    settled 5
    wait_for copies_are 2
    sums_hold /many/5
    wait_for agreed
}

# all nodes and the master are stopped and started in turn under load: nothing fails, hardly anything is copied
test_rolling() {
    local n before all began
    need jq python3
    sturdy
    export DFS_GRACE=1s DFS_TRASH_TIME=0s
    cluster 5 --copies 2
    many 100 /many
    wait_for copies_are 2
    wait_for state healthy
    load_begin 3
    load_more
    before=$(fetched)
    for n in n1 n2 n3 n4 n5; do
        stop "$n"
        load_more
        again "$n"
        wait_for node_is "$n" up
        wait_for roster_is 5
        load_more
    done
    all=$(($(status -j | jq .bytes) * 2))
    echo "five nodes stopped and started: $(($(fetched) - before)) bytes copied of $all," \
        "$(status -j | jq .copied_bytes) not to balance"
    [ $(($(fetched) - before)) -lt $((all / 10)) ]
    touch away
    dfs --bench up --files 4000 --size 100 --clients 4 >bench.out & # one client that lives through it
    n=$!
    load_more
    random 3000000 >begun
    stop m
    dfs -q -u /begun begun & # one that begins meanwhile
    began=$!
    pause 500
    again m
    wait_for roster_is 5
    wait "$n"
    grep ' 0 gave up' bench.out
    wait "$began"
    same /begun begun
    load_more
    rm away
    load_more
    load_end
    settled 5
    echo "the master too: $(fetched) bytes"
    [ "$(fetched)" -lt $((all / 10)) ]
    wait_for copies_are 2
    wait_for stored_is
    sums_hold /load /many/3
    wait_for agreed
}

# 6 nodes in 3 zones: never two copies of a chunk in one zone, while the zones last
test_zones() {
    local n
    need jq python3
    sturdy
    export DFS_GRACE=1s DFS_TRASH_TIME=0s
    zone() { n=$1; start "n$n" node "$PWD/n$n" -n "n$n" -l "${2:-$ip:0}" --zone "z$((n % 3))"; }
    apart() { # ZONES: the copies of each chunk are in at least so many zones
        layout / && awk -v least="$1" '{delete seen; count = 0
            for (i = 4; i <= NF; i++) count += !seen[substr($i, 2) % 3]++
            if (count < least) {bad = 1; print}} END {exit bad || NR == 0}' layout
    }
    cluster 0 --copies 2
    for n in 1 2 3 4 5 6; do zone "$n"; done
    settled 6
    many 100 /many
    balanced 2 n1 n2 n3 n4 n5 n6
    apart 2
    crash n1
    wait_for event 'node n1 is lost, whole again'
    wait_for copies_are 2
    apart 2
    crash n4 # now zone 1 is gone
    wait_for event 'node n4 is lost, whole again'
    wait_for copies_are 2
    apart 2
    rm -r n1 n4
    zone 1
    zone 4
    dfs --nodes >nodes
    awk 'NR == 1 || $1 == "n2"' nodes
    grep -q '^n2 .* z2$' nodes
    n=$(awk '$2 == "down" {print}' nodes | wc -l)
    echo "$n are down"
    balanced 2 n1 n2 n3 n4 n5 n6
    apart 2
    dfs --copies 3 /
    wait_for copies_are 3
    wait_for apart 3
    crash n2
    wait_for event 'node n2 is lost, whole again'
    wait_for copies_are 3
    apart 3
    crash n5 # two zones are left
    wait_for event 'node n5 is lost, whole again'
    wait_for copies_are 3
    apart 2
    for n in 2 5; do rm -r "n$n"; zone "$n"; done # and three again
    wait_for apart 3
    wait_for copies_are 3
    sums_hold /
    wait_for agreed
}

# zones of unequal size: the small one holds a copy of all, the others share, and nothing moves for ever; copies that
# are too many go also while a node is full
test_uneven() {
    local n before
    need jq python3
    sturdy
    export DFS_GRACE=1s DFS_TRASH_TIME=0s
    in_zone() { start "$2" node "$PWD/$2" -n "$2" -l "$ip:0" --zone "$1"; }
    cluster 0 --copies 2 --allow-faults
    in_zone small n1
    for n in 2 3 4; do in_zone large "n$n"; done
    settled 4
    many 60 /many
    split() { # NODE...: these share a copy of all, the other nodes the other copy
        layout / && cp layout whole
        awk -v some=" $* " '{line = $1 " " $2 " " $3
            for (i = 4; i <= NF; i++) if (index(some, " " $i " ")) line = line " " $i
            print line}' whole >layout
        awk 'NF != 4 {bad = 1} END {exit bad || NR == 0}' layout && even "$@"
    }
    halves() { copies_are 2 && split n1 "${@:1}" && split n2 n3 n4; }
    wait_for halves
    quiet() { # nothing is moved any more
        [ "$(status -j | jq .orders)" = 0 ] || return 1
        before=$(fetched)
        nap 2000
        [ "$(fetched)" = "$before" ]
    }
    rm -f since
    wait_for passed 11 # balance rests for ten seconds after nodes came
    wait_for quiet
    quiet
    in_zone small n5
    halves_now() { halves n5; }
    wait_for halves_now
    wait_for quiet
    quiet
    dfs --fault n3 full
    dfs --copies 1 /
    wait_for copies_are 1
    sums_hold /many
    wait_for quiet
    dfs --copies 2 / # n3 takes nothing: n2 and n4 do
    wait_for copies_are 2
    dfs --fault n3 none
    wait_for halves_now
    sums_hold /many
    wait_for agreed
}

# a file of 64 MiB for 8 nodes: each sends it at most three times
test_epidemic() {
    local size=$((64 << 20)) most sent
    need jq
    [ "$slow" = 1 ] || size=$((16 << 20))
    sturdy
    cluster 8 --sync-copies 1 --roster 8
    random "$size" >f
    dfs -q -u /f f
    wait_for held_by /f n1 n2 n3 n4 n5 n6 n7 n8
    wait_for state healthy
    sent=$(status -j | jq -c '[.nodes[].sent_bytes]')
    echo "sent: $sent"
    most=$(jq max <<<"$sent")
    [ "$most" -le $((size * 3)) ]
    [ "$(jq add <<<"$sent")" -ge $((size * 6)) ]
    [ "$(jq add <<<"$sent")" -le $((size * 8)) ]
    same /f f
}

# many small nodes: membership, placement and the repair of one that is killed; an idle master
test_hundred() {
    local n nodes=40 files=1000 begun ticks least
    need jq python3 gcc
    [ "$slow" = 1 ] || nodes=15 files=200
    [ -z "$long" ] || nodes=100 files=10000
    export DFS_PING=1s DFS_DEAD_AFTER=10s DFS_SEGMENT_SIZE=1M DFS_GRACE=2s
    cluster 0 --copies 3
    for n in $(seq "$nodes"); do
        "$DFS" node "$PWD/n$n" -n "n$n" -l 127.0.0.1:0 >"n$n.out" 2>>"n$n.err" &
        PID[n$n]=$!
    done
    wait_for -t 120 is_up_all "$nodes"
    wait_for roster_is 7
    dfs --bench up --files "$files" --size 100
    wait_for -t 120 copies_are 3
    wait_for state healthy
    for n in 3 17 11; do
        [ "$n" -le "$nodes" ] || n=5
        begun=$(ms_now)
        crash "n$n"
        wait_for -t 120 event "node n$n is lost, whole again"
        echo "n$n: whole again after $(($(ms_now) - begun)) ms; $(dfs --events | grep "n$n is lost")"
    done
    wait_for -t 120 copies_are 3
    wait_for current
    dfs --bench down --files "$files" --size 100
    [ "$slow" = 1 ] || return 0
    ticks() { awk '{print $14 + $15}' "/proc/${PID[m]}/stat"; }
    begun=$(ticks)
    wait_for -t 30 passed 10
    ticks=$(($(ticks) - begun))
    gcc -O2 "$here/.ci/echo.c" -o echo -pthread
    least=$(./echo $((nodes - 3)) 10)
    echo "the idle master took $((ticks * 10)) ms of 10 s, the least server that answers as many pings $least"
    [ "$ticks" -lt 10 ] || [ $((ticks * 10)) -lt $((2 * least)) ]
}
is_up_all() { [ "$(dfs --nodes | awk '$2 == "up" || $2 == "learner"' | wc -l)" = "$1" ]; }
passed() { [ -e since ] || date +%s >since; [ $(($(date +%s) - $(<since))) -ge "$1" ]; }

# what shows who holds what, and what is said to nodes: --where, --ls --node, --from, --events, --drain, --forget
test_commands() {
    local n code=0 id job
    need jq python3
    fast
    export DFS_GRACE=1s
    cluster 4 --copies 2
    random 9000000 >f
    dfs -q -u /d/f f --chunk-size 1M
    random 1000 >small
    dfs -q -u /d/small small
    wait_for copies_are 2
    wait_for state healthy
    layout /d/f
    dfs --where /d/f >where
    grep -cE '^ +[0-9]+  [0-9a-f]{64}  +[0-9]+  n[1-4] n[1-4]$' where | grep -x 9
    for n in n1 n2 n3 n4; do # the two agree
        code=$(grep -cw "$n" layout) || true
        [ "$code" = 0 ] || grep -q "^$n: $code of 9 chunks, " where
        [ "$(sed -n '1,9p' where | grep -cw "$n")" = "$code" ]
    done
    dfs -v -j /d/f | jq -e '.entries[0].path == "/d/f"'
    dfs --where -j /d/f | jq -e '(.chunks | length) == 9 and all(.chunks[]; (.nodes | unique | length) == 2)'
    fails 9 --where /d
    fails 2 --where /none
    layout /d/small
    read -r _ _ _ has other <layout
    dfs --ls --node "$has" /d | grep small
    dfs --ls --node "$other" /d | grep small
    for n in n1 n2 n3 n4; do
        dfs --ls --node "$n" /d >ls.out
        [ "$n" = "$has" ] || [ "$n" = "$other" ] || not grep small ls.out
        if [ "$(sed -n 1,9p where | grep -cw "$n")" = 9 ]; then grep ' f$' ls.out; else not grep ' f$' ls.out; fi
    done
    dfs -q -d /d/small got --from "$has"
    cmp got small
    rm got
    for n in n1 n2 n3 n4; do
        code=0
        "$DFS" -q -d /d/small got --from "$n" 2>>client.err || code=$?
        if grep -qw "$n" layout; then [ "$code" = 0 ]; else [ "$code" = 4 ] && [ ! -e got ]; fi
        rm -f got
    done
    fails 2 -d /d/small got --from nobody
    fails 2 --ls --node nobody /d
    dfs --copies all /d
    wait_for copies_are 4
    dfs --ls --node n3 /d | grep -E ' f$'
    dfs -q -d /d/f got --from n2
    cmp got f
    timeout $((600 * slow)) "$DFS" --events -f >follow 2>>client.err &
    job=$!
    dfs --events -j | jq -es 'length > 4 and all(.[]; .number > 0 and (.time | length) > 0 and (.event | length) > 0)
        and ([.[].number] | . == (sort | unique))'
    stop n4
    wait_for grep -q 'n4 is down: it was stopped' follow
    fails 4 -d /d/small - --from n4
    fails 4 --ls --node n4 /d
    wait_for roster_is 3
    wait_for state degraded
    dfs --forget n4
    wait_for state healthy
    not grep n4 <<<"$(dfs --nodes)"
    fails 2 --forget n4
    fails 2 --forget nobody
    fails 3 --forget n1
    again n4 # it comes back all the same
    settled 4
    wait_for grep -q 'n4 joined' follow
    id=$(status -j | jq -r '.nodes[] | select(.name == "n3") | .id')
    dfs --copies 1 /
    dfs --copies - /d
    wait_for copies_are 1
    dfs --drain "$id" | grep 'safe to unplug'
    node_is n3 draining
    dfs --nodes | grep '^n3 .*safe to unplug'
    layout /
    awk '{other = 0; for (i = 4; i <= NF; i++) other += $i != "n3"; if (!other) exit 1}' layout
    status -j | jq -e '.nodes[] | select(.name == "n3") | .left_to_copy == 0'
    random 3000000 >new
    dfs -q -u /more new --chunk-size 256K
    layout /more
    not grep -w n3 layout # it takes nothing new
    stop m
    again m
    wait_for node_is n3 draining
    stop n3
    stop m
    again m
    wait_for roster_is 3
    again n3 # it was away when the master took over
    wait_for node_is n3 draining
    same /more new
    same /d/f f
    dfs --drain n3 --cancel
    wait_for node_is n3 up
    for n in n1 n2 n4; do dfs --drain "$n"; done
    code=0
    timeout 10 "$DFS" --drain n3 >drained 2>>client.err || code=$? # the last one is never safe to unplug
    [ "$code" != 0 ] || die "all that is left is safe to unplug: $(cat drained)"
    for n in n1 n2 n3 n4; do dfs --drain "$n" --cancel; done
    fails 2 --drain nobody
    fails 64 --drain
    settled 4
    same /d/f f
    kill "$job"
    wait "$job" || true
    wait_for agreed
}

# the only copies move about while the master and the nodes are killed: none is dropped before another is on disk
test_only_copy() {
    local n=0 round job writer
    need jq python3
    fast
    export DFS_GRACE=500ms DFS_TRASH_TIME=0s
    cluster 4 --copies 1
    many "$(rounds 80 40)" /many
    until [ -e halt ]; do # what is acknowledged counts
        random 50000 >new
        n=$((n + 1))
        ! "$DFS" -q -u "/new/$n" new 2>>new.err || echo "$(sha <new) /new/$n" >>sums.new
        nap 50
    done &
    writer=$!
    for round in $(seq "$(rounds 4 2)"); do
        n=n$((RANDOM % 4 + 1))
        "$DFS" --drain "$n" >drained 2>>client.err &
        job=$!
        pause 400
        case $((RANDOM % 4)) in
        0) crash m ;;
        1) crash "$n" m ;;
        2) crash "$n" ;;
        *) crash "n$((RANDOM % 4 + 1))" m ;;
        esac
        pause 300
        for n in m n1 n2 n3 n4; do [ -n "${PID[$n]:-}" ] || again "$n"; done
        wait "$job" || true
        settled_or_drained() { status -j | jq -e '.roster == 4 and .copies_missing == 0 and .unavailable_chunks == 0'; }
        wait_for settled_or_drained
        for n in n1 n2 n3 n4; do dfs --drain "$n" --cancel; done
        dfs --copies 2 /
        pause 500
        dfs --copies 1 /
        pause 800 # now they are dropped
        [ $((RANDOM % 2)) = 0 ] || { crash m; again m; }
        wait_for settled_or_drained
    done
    touch halt
    wait "$writer"
    cat sums.new >>sums
    settled 4
    sums_hold /
    wait_for copies_are 1
    wait_for stored_is
    sums_hold /
    wait_for agreed
}

# ---- The client ----

# names on both sides: PATH SIZE SHA256 of files, and times, as far as a folder has them
manifest() { (cd "$1" && find . \( -type f -o -type d \) -printf '%y %P %T@\n' | sort &&
    find . -type f -print0 | sort -z | xargs -0 -r sha256sum); }
alike() { # FOLDER FOLDER: files and folders, contents and times, are the same; symbolic links and such do not count
    diff <(manifest "$1") <(manifest "$2") >differ || { head -n 5 differ; return 1; }
}
answer() { python3 "$here/.ci/wire.py" ask "${ADDR[m]}" "$@"; } # VERB WORD...: by hand
pick() { # COUNT: makes the folder `tree` of so many real files, as they are on this machine, and a few odd ones
    mkdir tree
    find /usr/share /usr/lib /usr/include -xdev -type f -size -200k 2>/dev/null | awk -v n="$1" 'NR <= n' |
        tar -cf - -T - 2>/dev/null | tar -xf - -C tree
    mkdir -p tree/empty/inner "tree/odd * names"
    : >tree/nothing
    random 9000000 >tree/large
    cp tree/large tree/twin
    random 10 >"tree/odd * names/[a]?*.txt"
    random 10 >"tree/odd * names/-n"
    random 10 >"tree/odd * names/"$'\xff\n%41 x'
    touch -d '2001-02-03 04:05:06.789' tree/nothing "tree/odd * names"
    touch -d '1969-12-31 23:59:58.5 UTC' tree/twin
    ln -s nothing tree/link
    ln -s /nowhere tree/dangling
    ln -s . tree/circle
    mkfifo tree/fifo
}

# a folder of real files up and down: contents and times are the same, nothing is sent twice; --exclude, --delete
test_whole_folder() {
    local count=1000 files
    need jq
    [ "$slow" = 1 ] || count=200
    [ -z "$long" ] || count=25000
    fast
    cluster 3
    pick "$count"
    files=$(find tree -type f -printf . | wc -c)
    dfs -u -j /t tree >up.json
    jq -e ".sent == $files and .same == 0 and .skipped == 4 and .failed == 0" up.json
    grep -c 'skipped .*symbolic link' client.err | grep -x 3
    dfs -d -j /t back | jq -e ".sent == $files and .failed == 0"
    alike tree back
    dfs -u -j /t tree | jq -e ".sent == 0 and .same == $files and .sent_bytes == 0 and .bytes == 0"
    dfs -d -j /t back | jq -e ".sent == 0 and .same == $files"
    [ "$(dfs --find '*' /t | grep -vc '/$')" = "$files" ]
    [ "$(dfs --du -j /t | jq '.[-1].files')" = "$files" ]
    [ "$(dfs --du -j /t | jq '.[-1].bytes')" = "$(find tree -type f -printf '%s\n' | awk '{s += $1} END {print s}')" ]
    # one changes, one only its time, one is new, one goes
    random 300 >tree/nothing
    touch -d '2011-11-11' tree/twin
    random 70000 >tree/new
    rm tree/large
    dfs -u --dry-run /t tree --delete >would
    diff <(sort would) - <<<$'remove /t/large\ntouch /t/twin\nupload /t/new\nupload /t/nothing'
    dfs -u -j /t tree | jq -e '.sent == 2 and .removed == 0'
    dfs -u -j /t tree --delete | jq -e '.sent == 0 and .removed == 1'
    fails 2 --stat /t/large
    dfs -d --dry-run --delete /t back >would
    diff <(sort would) - <<<$'download /t/new\ndownload /t/nothing\nremove back/large'
    dfs -q -d --delete /t back
    alike tree back
    # the same contents under other names are not sent again
    cp -a tree other
    dfs -u -j /other other | jq -e '.sent > 5 and .sent_bytes == 0'
    dfs -q -u /x/ other/twin # into a folder, under its own name
    same /x/twin tree/twin
    dfs -q -u /x/ other -x '*' # the same for a folder; nothing of what is in it
    dfs --ls /x | grep >/dev/null ' other/$'
    [ "$(dfs --ls /x/other | wc -l)" = 0 ]
    dfs -q -u /part tree -x new -x 'odd*' -x 'usr/*' -x twin
    [ "$(dfs --ls -j /part | jq -r '.[].name' | xargs)" = 'empty nothing usr' ]
    [ "$(dfs --ls -r /part/usr | wc -l)" = 0 ]
    dfs -q -d /part part && [ -e part/nothing ] && [ ! -e part/new ]
    # --exclude protects from --delete, in both directions
    dfs -q -u /keep part
    random 10 | dfs -q -u /keep/usr/keep.o -
    random 10 | dfs -q -u /keep/empty/gone.o -
    dfs -q -u /keep part --delete -x 'usr/keep.o'
    dfs --stat /keep/usr/keep.o
    fails 2 --stat /keep/empty/gone.o
    dfs -q -d /keep part -x 'usr/keep.o'
    [ ! -e part/usr/keep.o ]
    random 10 >part/usr/mine
    mkdir outside && random 10 >outside/precious
    random 10 >part/.dfs-part-0123456789abcdef
    dfs -q -d /keep part --delete -x usr/mine
    [ -e part/usr/mine ] && [ -e part/usr/keep.o ] && [ -e part/.dfs-part-0123456789abcdef ]
    rm -r part/usr && ln -s ../outside part/usr
    fails 9 -q -d /keep part --delete # it does not lead out of the folder
    [ -e outside/precious ] && [ ! -e outside/keep.o ]
    rm part/usr
    ln -s ../outside/precious part/nothing.link
    cp tree/nothing precious.now && mv precious.now outside/precious
    dfs -q -u /keep/nothing.link tree/new
    dfs -q -d /keep part
    cmp part/nothing.link tree/new
    [ ! -L part/nothing.link ]
    cmp outside/precious tree/nothing
    # one that can't be read does not hold up the others
    if [ "$(id -u)" = 0 ]; then
        chmod 700 . && mkdir locked && cp tree/new locked/a && cp tree/new locked/b && cp tree/new locked/c
        rm -f locked/b && ln -s /proc/1/mem locked/b
        fails '5|7' -q -u -L /locked locked
        same /locked/a tree/new
        same /locked/c tree/new
    fi
    mkdir tiny && for i in $(seq 40); do random 1500000 >"tiny/$i"; done
    dfs -q -u /tiny tiny --chunk-size 16K
    dfs -q -d /tiny tiny.got
    alike tiny tiny.got
    DFS_EXCLUDE='*.o' DFS_DELETE=1 dfs -q -u /single tree/new
    dfs -q -u /a1/new tree/new
    dfs --cp /a1 /a2
    fails 6 -q -d '/a[12]/new' outside # they would have one name
    fails 6 --mv '/a[12]/new' /keep
    dfs -q -d / root
    [ "$(date -r root +%Y)" != 1970 ]
    # links are followed if that is asked for, but not in circles; the one that points nowhere is an error of its own
    fails 2 -u -L /links tree
    grep -q 'circle.*a link to a folder that it is in' client.err
    same /links/link tree/nothing
    same /links/twin tree/twin
    # what is there stays with --no-clobber; other kinds are errors, and the rest goes on
    random 10 >tree/nothing
    random 10 >tree/more
    fails 3 -q -u --no-clobber /t tree
    same /t/more tree/more
    not same /t/nothing tree/nothing
    fails 3 -q -u --no-clobber /t/nothing tree/nothing
    fails 3 -q -d --no-clobber /t/nothing tree/nothing
    rm -r tree/empty && random 10 >tree/empty
    fails 9 -q -u /t tree
    same /t/nothing tree/nothing
    fails 9 -q -u /t/nothing/x tree
    fails 9 -q -d /t tree/nothing
    fails 9 -d /t -
    fails 2 -q -d /none back
    wait_for agreed
}

# transfers of folders and large files are broken off at random, by kill -9 and Ctrl-C, and repeated: all arrives
test_broken_off() {
    local i signal code done_at size=$((96 << 20)) job
    need jq
    [ "$slow" = 1 ] || size=$((64 << 20))
    fast
    cluster 3 --allow-faults
    pick 600
    for how in up down; do
        done_at=0
        for i in $(seq 40); do
            args=(-u /t tree) code=0
            [ $how = up ] || args=(-d /t back)
            [ ! -e back ] || find back -name '.dfs-*' -delete # kill -9 leaves some
            env --default-signal=INT "$DFS" -q "${args[@]}" 2>>client.err &
            job=$!
            pause $((150 * i))
            signal=$([ $((RANDOM % 2)) = 0 ] && echo INT || echo KILL)
            kill "-$signal" $job 2>/dev/null || true
            wait $job || code=$?
            [ "$code" != 0 ] || { done_at=$i; break; }
            [[ $code =~ ^(130|137|143)$ ]] || die "exit code $code"
            [ "$signal" = KILL ] || [ $how = up ] || not grep . <(find back -name '.dfs-*' ! -name '.dfs-part*')
        done
        echo "$how: done after $done_at tries"
        [ "$done_at" != 0 ]
    done
    dfs -q -d /t back # the times of the folders that these were in
    alike tree back
    # a large file: what arrived is not sent, or fetched, again
    random "$size" >big
    code=0
    half() { head -c $((size / 2)) big && wait_for -t 300 test -e halted; }
    env --default-signal=INT "$DFS" -q -u /big - < <(half) 2>>client.err &
    job=$!
    half_there() { [ "$(dfs --nodes -j | jq '[.nodes[].bytes] | max')" -ge $((before + size / 2 - (8 << 20))) ]; }
    before=$(dfs --nodes -j | jq '[.nodes[].bytes] | max')
    wait_for half_there
    kill -INT $job
    wait $job || code=$?
    touch halted
    [ "$code" = 130 ]
    fails 2 --stat /big
    dfs -u -j /big big | jq -e ".size == $size and .sent_bytes < $size * 2 / 3 and .sent_bytes > $size / 4"
    wait_for held_by /big n1 n2 n3
    for n in n1 n2 n3; do dfs --fault "$n" slow 1500; done
    env --default-signal=INT "$DFS" -d /big got 2>said &
    job=$!
    part_there() { find . -name '.dfs-part-*' -size +16383k | grep >/dev/null .; }
    wait_for part_there
    kill -INT $job
    code=0
    wait $job || code=$?
    [ "$code" = 130 ]
    [ ! -e got ]
    grep -q 'repeat the command' said
    for n in n1 n2 n3; do # the first chunk is right nowhere any more but in the part
        dfs --fault "$n" none
        dfs --fault "$n" corrupt "$(dfs --stat -j /big | jq -r '.chunks[0].sha256')"
    done
    dfs -q -d /big got
    cmp big got
    [ -z "$(find . -name '.dfs-*')" ]
    fails 11 -q -d /big - # there was no other way
}

# many small files through one client that has a whole folder to move, beside as many of the benchmark's clients
test_folder_speed() {
    local count=4000 round bench=0 folder=0 now
    plain
    need jq
    cluster 3
    mkdir small
    for i in $(seq -f %04.0f $count); do echo "$i $RANDOM $RANDOM $RANDOM"; done | split -l 1 -a 4 - small/
    rate() { grep -oE '[0-9]+ files/s' | cut -d' ' -f1; }
    dfs --bench up --files 500 --size 40 # all is warm
    for round in 1 2 3; do
        now=$(dfs --bench up --files $count --size 40 | rate)
        [ "$now" -le "$bench" ] || bench=$now
        now=$(dfs -u -j "/small/$round" small | jq '.sent / .seconds | floor')
        for f in small/*; do echo "$round" >>"$f"; done
        [ "$now" -le "$folder" ] || folder=$now
    done
    echo "files in a second: $folder of a folder, $bench by 16 clients of the benchmark"
    [ $((folder * 2)) -ge "$bench" ]
}

# --cp --rm -r --rmdir --mkdir -p --mv --find --du --cat, patterns: trees, and what is refused
test_namespace() {
    local i
    need jq python3
    fast
    export DFS_GRACE=1s
    cluster 3
    for i in 1 2 3; do for k in a b; do random $((i * 3000)) | tee "$i$k" | dfs -q -u "/src/$i/$k.txt" -; done; done
    random 9000000 >big
    dfs -q -u /src/big big
    dfs --mkdir /src/none
    dfs --copies 2 /src/2
    dfs --cp /src /copy # a snapshot
    for i in 1 2 3; do same "/copy/$i/a.txt" "${i}a"; done
    same /copy/big big
    [ "$(dfs --du -j /copy | jq '.[-1].bytes')" = "$(dfs --du -j /src | jq '.[-1].bytes')" ]
    random 10 | dfs -q -u /src/1/a.txt -
    same /copy/1/a.txt 1a
    dfs --cp /src/1/b.txt /copy/1/a.txt # over a file
    same /copy/1/a.txt 1b
    dfs --mkdir /box
    dfs --cp /src/1 /box # into a directory
    fails 3 --cp /src/1 /box
    same /box/1/b.txt 1b
    dfs --cp /src/1 /src/2 /into/ # several
    same /into/2/b.txt 2b
    dfs --mv /into/1 /into/2 /copy/2
    same /copy/2/2/b.txt 2b
    fails 9 --cp /src/1 /src/2 /src/big
    fails 6 --cp /src /src/1/x
    fails 6 --cp / /x
    fails 2 --cp /none /x
    fails 9 --cp /src/1 /src/big
    long=$(printf '/%0200d' $(seq 20))
    dfs --mkdir "$long"
    fails 6 --cp /src "$long/s$(printf %070d 1)"
    fails 6 --mv /src "$long/s$(printf %070d 1)"
    dfs --cp /src/1/b.txt "$long/s"
    dfs --rm -r "/$(printf %0200d 1)"
    dfs --find -H b.txt /src/2 | grep >/dev/null ' /src/2/b.txt$'
    [ "$(dfs --find 'src/2/b*')" = /src/2/b.txt ]
    [ "$(dfs --find '*' /src/2/b.txt)" = /src/2/b.txt ]
    crash n1
    crash m
    again m n1 # records are told from the log
    settled 3
    wait_for agreed
    same /copy/2/2/b.txt 2b
    stop n2
    again n2
    settled 3
    wait_for agreed
    # patterns
    [ "$(dfs --cat '/src/3/*.txt' | sha)" = "$(cat 3a 3b | sha)" ]
    [ "$(dfs --find 'a.*' /src | xargs)" = "/src/1/a.txt /src/2/a.txt /src/3/a.txt" ]
    [ "$(dfs --find '/src/[12]/b*' | xargs)" = "/src/1/b.txt /src/2/b.txt" ]
    [ "$(dfs --ls '/src/*/b.txt' | grep -c ' b.txt$')" = 3 ]
    mkdir got
    dfs -q -d '/src/?/a.txt' got || true
    fails 2 --rm '/src/*.none'
    random 10 >star
    dfs -q -u '/lit/*' star # a name is a name first
    dfs -q -u /lit/x star
    dfs --rm '/lit/*'
    dfs --stat /lit/x
    fails 2 --stat '/lit/[*]'
    # removing
    fails 8 --rmdir /src
    fails 9 --rmdir /src/big
    fails 8 --rm /src
    dfs --rmdir /src/none
    dfs --rm -r /src '/box/*'
    fails 2 --stat /src
    dfs --undelete /src
    same /src/3/a.txt 3a
    same /src/big big
    fails 6 --rm -r /
    dfs --mkdir -p /src/3 /new/deep
    fails 3 --mkdir /new/deep
    fails 3 --mkdir -p /src/big
    dfs --ls -r -H /src | grep >/dev/null '8.6 MiB .* big$'
    dfs --ls -r /src | grep >/dev/null ' 3/a.txt$'
    # deep as can be: no thread runs out of its stack
    deep=$(printf '/d%.0s' $(seq 2000))
    dfs -q -u "$deep/f" star
    dfs --cp /d /e
    same "/e${deep#/d}/f" star
    dfs --rm -r /d
    dfs --undelete /d
    same "$deep/f" star
    [ "$(dfs --ls -r /d | wc -l)" = 2000 ]
    dfs --rm -r /d /e /copy
    wait_for agreed
    stop m
    again m
    settled 3
    wait_for agreed
}

# the answers in JSON have the keys that docs/JSON.md tells, no others and no fewer
test_json_keys() {
    local section
    need jq
    fast
    cluster 3 --allow-faults
    random 5000000 >f
    mkdir folder && cp f folder/
    documented() { # SECTION: its keys, one a line, without those that are there only sometimes
        awk -v s="## $1" '$0 == s {on = 1; next} /^##/ {on = 0} on && /^    [.[]/' "$here/docs/JSON.md" |
            sed -E 's/^ +//; s/  .*//' | tr ' ' '\n'
    }
    has_keys() { # SECTION: standard input has its keys
        jq -r '[paths | map(if type == "number" then "[]" else "." + . end) | join("")] | unique[]' | grep -v '\[\]$' |
            sort >is
        documented "$1" | grep -vE '\[\]\*?$' | sort >said
        [ -s said ] || die "docs/JSON.md has no section $1"
        not grep . <(grep -vxFf <(sed 's/\*$//' said) is) || die "$1 has keys that are not in docs/JSON.md"
        not grep . <(grep -v '\*$' said | grep -vxFf is) || die "$1 lacks keys that are in docs/JSON.md"
        seen+=("$1")
    }
    local seen=()
    has_keys '--upload of a file' < <(dfs -u -j /d/f f)
    has_keys '--upload and --download of a folder' < <(dfs -u -j /folder folder)
    echo more >>folder/f
    cp f folder/g
    [ "$(dfs -u --dry-run -j /folder folder | sort)" = '{"action":"upload","path":"/folder/f","kind":"file"}
{"action":"upload","path":"/folder/g","kind":"file"}' ]
    rm folder/g
    has_keys --dry-run < <(dfs -u --dry-run -j /folder folder)
    has_keys '--download of a file' < <(dfs -d -j /d/f got)
    has_keys '--upload and --download of a folder' < <(dfs -d -j /folder got.folder)
    dfs -q -u $'/d/\xff' f
    wait_for held_by /d/f n1 n2 n3
    has_keys --stat < <(dfs --stat -j /d/f)
    has_keys --stat < <(dfs --where -j /d/f)
    seen+=(--where)
    has_keys '--ls --find' < <(dfs --ls -r -j /)
    has_keys '--ls --find' < <(dfs --find -j '*' /)
    has_keys --view < <(dfs -v -j)
    has_keys --du < <(dfs --du -j /)
    section='--rm --rmdir --mkdir --mv --cp --copies --unshare --undelete REMOTE'
    has_keys "$section" < <(dfs --mkdir -j /a /b)
    has_keys "$section" < <(dfs --rmdir -j /a)
    has_keys "$section" < <(dfs --mv -j /d/f /b)
    has_keys "$section" < <(dfs --cp -j /b /c)
    has_keys "$section" < <(dfs --copies 2 -j /c)
    has_keys '--share REMOTE' < <(dfs --share -j /b/f --expire 1h)
    has_keys '--share without a path' < <(dfs --share -j)
    has_keys "$section" < <(dfs --unshare -j /b/f)
    has_keys "$section" < <(dfs --rm -r -j /c)
    has_keys '--undelete without a path' < <(dfs --undelete -j)
    has_keys "$section" < <(dfs --undelete -j /c)
    has_keys --edit < <(EDITOR=true dfs --edit -j /b/f)
    has_keys '--status --nodes' < <(status -j)
    has_keys '--status --nodes' < <(dfs --nodes -j)
    has_keys --events < <(dfs --events -j | head -n 1)
    has_keys --scrub < <(dfs --scrub -j)
    has_keys --fault < <(dfs --fault -j n1 none)
    has_keys --bench < <(dfs --bench -j up --files 10)
    has_keys --drain < <(dfs --drain -j n3)
    stop n3
    wait_for roster_is 2
    has_keys --forget < <(dfs --forget -j n3)
    has_keys --fsck < <(dfs --fsck -j n3)
    has_keys --extract < <(dfs --extract -j n3 out)
    sed -n 's/^## //p' "$here/docs/JSON.md" | sort >sections
    diff <(printf '%s\n' "${seen[@]}" | sort -u) sections
}

# many clients rename, copy, remove and upload the same few names at once: each outcome is clear, all servers agree
test_many_hands() {
    local w i job jobs=()
    need python3 jq
    fast
    cluster 3
    random 5000 >f
    hand() { # WORKER
        local code a b rounds=40
        [ "$slow" = 1 ] || rounds=10
        for i in $(seq $rounds); do
            a=/p/$((RANDOM % 3)) b=/p/$((RANDOM % 3))/$((RANDOM % 3)) code=0
            case $((RANDOM % 7)) in
            0) dfs -q --mv "$a" "$b" || code=$? ;;
            1) dfs -q --mv "$b" "$a" || code=$? ;;
            2) dfs -q --cp "$a" "$b" || code=$? ;;
            3) dfs --rm -r -q "$a" || code=$? ;;
            4) dfs -q -u "$b/up.$1" f || code=$? ;;
            5) dfs --mkdir "$b" || code=$? ;;
            6) dfs --undelete "$a" || code=$? ;;
            esac
            echo "$code" >>codes
            [[ $code =~ ^(0|2|3|6|8|9)$ ]] || { echo "worker $1: exit code $code" >>hand.failed; return; }
        done
    }
    for w in 1 2 3 4 5 6; do hand "$w" & jobs+=($!); done
    # one name, many renames: exactly one wins
    wait "${jobs[@]}"
    not cat hand.failed
    sort -n codes | uniq -c
    jobs=()
    for i in 1 2 3; do
        dfs -q -u /race/from f
        for w in 1 2 3 4; do
            (code=0; dfs --mv /race/from "/race/to.$i.$w" || code=$?; echo $code >>"won.$i") &
            jobs+=($!)
        done
        wait "${jobs[@]}"
        [ "$(grep -cx 0 "won.$i")" = 1 ]
        [ "$(grep -cx 2 "won.$i")" = 3 ]
    done
    # the directory that an upload goes to is removed meanwhile: the file is there, with its directory
    (sleep_until_there() { wait_for test -e go; }; sleep_until_there; cat f) | dfs -q -u /gone/deep/f - &
    job=$!
    dfs --mkdir /gone/deep
    dfs --rm -r /gone
    touch go
    wait "$job"
    same /gone/deep/f f
    while read -r path; do dfs -q -d "$path" - | cmp - f; done < <(dfs --find 'up.*' /)
    wait_for agreed
}

# --cache-ttl: within the time nobody is asked, behind it one question decides; damage, size; --edit
test_cache() {
    local files size
    need jq
    fast
    export XDG_CACHE_HOME=$PWD/cache
    cluster 2
    random 300000 >f
    random 300000 >g
    dfs -q -u /f f
    dfs -q -d /f got --cache-ttl 1h
    cmp got f
    XDG_CACHE_HOME=$PWD/elsewhere dfs -q -u /f g # another client
    dfs -q -d /f got --cache-ttl 1h # the old one, for an hour
    cmp got f
    dfs -q -d /f got
    cmp got g
    dfs -q -d /f got --cache-ttl 0s # one question
    cmp got g
    dfs --cat /f --cache-ttl 1h | cmp - g
    dfs -q -u /f f # one's own changes are seen at once
    dfs -q -d /f got --cache-ttl 1h
    cmp got f
    dfs --mv /f /f2
    fails 2 -d /f got --cache-ttl 1h
    dfs --mv /f2 /f
    dfs -q -d /f got --cache-ttl 1h
    files=(cache/dfs/files/*)
    printf X | dd of="cache/dfs/files/$(sha <f)" bs=1 seek=1000 conv=notrunc status=none
    dfs --cat /f --cache-ttl 3600 | cmp - f # not that one
    stop m
    stop n1 n2
    dfs -q -d /f got --cache-ttl 1h # with nobody there
    cmp got f
    dfs --cat /f --cache-ttl 1h | cmp - f
    fails '1|4' -d /f got --cache-ttl 0s
    [ "${#files[@]}" -ge 1 ]
    again n1 n2
    again m
    settled 2
    for i in 1 2 3 4 5 6; do
        random 200000 | dfs -q -u "/c$i" -
        dfs -q -d "/c$i" - --cache-ttl 1h --cache-size 700K >/dev/null
    done
    size=$(find cache/dfs/files -type f -printf '%s\n' | awk '{s += $1} END {print s}')
    [ "$size" -le 716800 ]
    [ "$size" -ge 400000 ]
    # --edit
    printf '#!/bin/sh\necho edited >>"$1"\n' >editor
    chmod +x editor
    export EDITOR=$PWD/editor VISUAL=''
    echo one | dfs -q -u /note -
    dfs --edit /note
    [ "$(dfs -q -d /note -)" = $'one\nedited' ]
    EDITOR=true dfs --edit /note
    dfs --edit /new
    [ "$(dfs -q -d /new -)" = edited ]
    EDITOR=false fails 5 --edit /note
    [ "$(dfs -q -d /note -)" = $'one\nedited' ]
    printf '#!/bin/sh\necho hours of work >>"$1"\nexit 1\n' >editor
    fails 5 --edit /note # what was written is kept
    grep -q 'hours of work' "$(grep -o '/[^ ]*dfs-edit[^ ]*' fails.text)"
    rm -r "$(dirname "$(grep -o '/[^ ]*dfs-edit[^ ]*' fails.text)")"
    dfs --mkdir /folder
    fails 9 --edit /folder
    HOME=/proc/none XDG_CACHE_HOME='' dfs --cat /note --cache-ttl 1h | grep >/dev/null edited # no place for a cache
    cat >editor <<-END
	#!/bin/sh
	echo mine >>"\$1"
	echo theirs | "$DFS" -q -u /note -
	END
    fails 3 --edit /note # somebody else was quicker
    grep -q 'kept in /' fails.text
    [ "$(dfs -q -d /note -)" = theirs ]
    [ "$(tail -n 1 "$(grep -o '/[^ ]*dfs-edit[^ ]*' fails.text)")" = mine ]
    rm -r "$(dirname "$(grep -o '/[^ ]*dfs-edit[^ ]*' fails.text)")"
}

# each error of the table: exit code, word on the wire, and the three parts of what is said
test_errors() {
    local code pids
    need python3 jq
    fast
    cluster 3 --allow-faults
    random 100000 >f
    dfs -q -u /f f
    dfs --mkdir /d/e
    three() { # CODE NEXT ARGS...: what failed: the table's text: why and what next
        local hint=$2 line
        fails "$1" "${@:3}"
        line=$(grep -m 1 "^dfs: " fails.text)
        [[ $line =~ ^dfs:\ ([^:]*):\ ([^:]*(:\ [^:]*)?):\ .{8,} ]] || die "no three parts: $line"
        grep -qiE "$hint" <<<"$line" || die "it does not say what to do next: $line"
    }
    wire() { answer "${@:2}" | grep >/dev/null "^ERR $1 " || die "$(answer "${@:2}")"; }
    three 1 'start one with' -m 127.0.0.1:1 --status
    three 1 'is it spelled|start one|master' -m nobody.invalid --status
    three 2 'dfs --ls' --stat /none
    wire notfound STAT /none
    three 3 'there already' --mkdir /d/e
    wire exists MKDIR REQUEST /d/e
    three 6 'write it out' --stat /x/../y
    wire badrequest STAT /x/../y
    (umask 077 && random 32 | od -An -tx1 | tr -d ' \n' >other.key)
    three 7 'key' -k other.key --status
    (unset DFS_KEY_FILE; HOME=/nonexistent three 7 'key' --status)
    wire denied PING 1 ok 0 0 0 0 0 0 0 0 - 0 0 0 0 0 -
    three 8 'remove what is in it' --rm /d
    wire notempty RM REQUEST /d
    three 9 'directory' -u /d/e f
    wire wrongkind STAT /f/x
    for n in n1 n2 n3; do dfs --fault "$n" full; done
    random 100000 >g
    three 10 'delete|add a node' -u /g g
    for n in n1 n2 n3; do dfs --fault "$n" none; done
    for n in n1 n2 n3; do dfs --fault "$n" corrupt "$(dfs --stat -j /f | jq -r '.chunks[0].sha256')"; done
    three 11 'upload the file again' -d /f got
    pids=("${PID[n1]}" "${PID[n2]}" "${PID[n3]}")
    kill -STOP "${pids[@]}"
    three 12 'look, and repeat|repeat' --mkdir /unknown
    kill -CONT "${pids[@]}"
    wait_for state degraded # the one chunk
    random 1000 >f2
    dfs -q -u /f2 f2
    DFS_FAULT=write:1 three 5 '.' -d /f2 got
    crash n2 n3
    wait_for state read-only
    three 13 'wait' --mkdir /x
    wire readonly MKDIR REQUEST /x
    crash n1
    wait_for not dfs -q -d /f2 got
    three '4' '.' -d /f2 got
    # what was meant
    fails 64 --stats /f
    grep -q 'did you mean --stat?' fails.text
    fails 64 --dowload /f x
    grep -q 'did you mean --download?' fails.text
    fails 64 ls /
    grep -q 'did you mean dfs --ls?' fails.text
    fails 64 uplaod / x
    grep -q 'did you mean dfs --upload?' fails.text
    fails 64 nodes
    grep -q 'did you mean dfs --nodes?' fails.text
    fails 64 mastr --init
    grep -q 'did you mean dfs master?' fails.text
    fails 64 --zzzzzz
    fails 64 -u /x f --delete
    fails 64 -u /x f --cache-ttl 1h
    fails 64 -d /x got --cache-size 1M
    fails 64 --ls --from n1
    again n1 n2 n3
    wait_for roster_is 3
    fails 2 -u f /e
    fails 2 -u x nothing-here-1
    mv f2 here
    fails 2 -u ./here /f2
    grep -q 'REMOTE LOCAL, in this order' fails.text
    fails 2 -d ./here /f2
    grep -q 'REMOTE LOCAL, in this order' fails.text
}

# what the program prints for shells and readers: help, completion, a manual page; all of it is what the tables say
test_reading() {
    local shell
    "$DFS" --help >help
    "$DFS" --help all >all
    [ "$(wc -l <help)" -lt 50 ]
    [ "$(sed -n '3,7p' help | grep -c '^  dfs ')" = 5 ]
    [ "$(wc -L <help)" -le 120 ] && [ "$(grep -v '^Exit codes' all | wc -L)" -le 160 ]
    "$DFS" --man >dfs.1
    grep -oE '^ +(-[a-zA-Z], )?--[a-z-]+' all | grep -oE -- '--[a-z-]+' | sort -u >options
    [ "$(wc -l <options)" -gt 60 ]
    for shell in bash zsh fish; do "$DFS" --completion $shell >"completion.$shell"; done
    while read -r option; do
        grep -qF -- "${option//-/\\-}" dfs.1 || die "$option is not in the manual page"
        grep -qw -e "$option" completion.bash || die "$option is not completed by bash"
        grep -qw -e "$option" completion.zsh || die "$option is not completed by zsh"
        grep -qw -e "-l ${option#--}" completion.fish || die "$option is not completed by fish"
    done <options
    bash -n completion.bash
    ! command -v zsh >/dev/null || zsh -n completion.zsh
    ! command -v fish >/dev/null || fish -n completion.fish
    ! command -v mandoc >/dev/null || not grep . <(mandoc -T lint -W warning dfs.1)
    complete_word() { # WORD: what bash makes of it
        bash -c 'source completion.bash; COMP_WORDS=(dfs "$1"); COMP_CWORD=1; _dfs
            printf "%s\n" "${COMPREPLY[@]}"' _ "$1"
    }
    [ "$(complete_word --und)" = --undelete ]
    [ "$(complete_word mast)" = master ]
    "$DFS" --version | grep >/dev/null -E '^dfs [0-9.]+, protocol dfs/[0-9]+, disk format [0-9]+'
}

# work that takes more than a second shows a bar on a terminal: bytes, rate, time left, files; nothing else does: no
# pipe, no -q, no short work; when it is over it is off the screen
test_bars() {
    local n rate='[0-9.]+ ([KMG]i)?B/s' left='[0-9]+ s left'
    need script
    fast
    cluster 3 --allow-faults
    random 1000000 >small
    mkdir folder
    for i in 1 2 3 4; do random 8000000 >folder/$i; done
    cat folder/? >big
    on_terminal() { # COMMAND: what it writes to a terminal of its own, each row that is drawn on a line of its own
        local code=0
        timeout $((60 * slow)) script -qec "stty cols ${columns:-100}; $1" /dev/null </dev/null >drawn || code=$?
        tr '\r' '\n' <drawn >rows
        return $code
    }
    row() { grep -qE "$1" rows || { cat -v rows; return 1; }; } # EXPRESSION: one of the rows is like this
    # a pipe that is slow makes any work long
    printf '#!/bin/sh\nfor n in 1 2 3 4; do head -c 8000000; sleep 0.6; done\n' >slowly
    chmod +x slowly
    ./slowly <big | "$DFS" -u /pipe - 2>text
    grep -qE '^uploaded /pipe  30.5 MiB  .* s$' text
    [ "$(wc -l <text)" = 1 ] && not grep $'\r' text
    on_terminal "./slowly <big | $DFS -u /slow -"
    row "^up [0-9.]+ MiB  $rate"
    not grep -F '[#' rows # nobody knows how much comes
    row '^.\[Kuploaded /slow  30.5 MiB' # over the bar
    on_terminal "./slowly <big | $DFS -q -u /slow -"
    [ ! -s rows ]
    quick() { n=$(ms_now) && on_terminal "$DFS -u /small small" && [ $(($(ms_now) - n)) -lt 450 ]; }
    wait_for quick # half a second is when the bar comes
    not grep -E "$rate" rows
    # nodes that are slow: the bar knows the whole
    random 3000000 >one
    for n in n1 n2 n3; do dfs --fault "$n" slow 700; done
    on_terminal "$DFS -u /one one" # all of it goes at once, and then it takes its time
    row "^up \[[#.]{24}\] +[0-9]+% [0-9.]+ MiB  $rate"
    for n in n1 n2 n3; do dfs --fault "$n" slow 300; done
    on_terminal "$DFS -u /big big --chunk-size 1M"
    row "^up \[[#.]{24}\] +[0-9]+% [0-9.]+ MiB  $rate  $left"
    sed -nE 's/.*\] +([0-9]+)%.*/\1/p' rows >percents
    sort -n percents | cmp - percents # it never goes back
    on_terminal "$DFS -u /folder folder --chunk-size 1M"
    row "^up \[[#.]{24}\] +[0-9]+% .*  [0-4] of 4 files"
    on_terminal "$DFS --cat /big >got"
    row "^down [0-9.]+ MiB  $rate"
    cmp got big
    columns=40 on_terminal "$DFS -d /folder back"
    row "^down \[[#.]{10}\]"
    awk '/^down \[/ {gsub(/.\[K/, ""); if (length > 40) exit 1}' rows
    diff -r folder back
}

# the viewer in a terminal: what it shows when all is well, a node is down, copies are made, nothing is there; its keys
test_viewer() {
    local socket=$PWD/tmux.sock how viewed=$PWD/viewed
    need tmux
    export TERM=screen-256color
    sturdy
    cluster 3 --copies 2 --repair-rate 1M
    ln -s "$DFS" "$viewed" # so that its processes are not those of another test
    tmux -S "$socket" -f /dev/null -D >/dev/null 2>tmux.said &
    PID[tmux]=$!
    wait_for test -S "$socket"
    screen() { tmux -S "$socket" capture-pane -p -t v; }
    shows() { screen >screen.now && cat screen.now >>screens && grep -qE -- "$1" screen.now; }
    sees() { wait_for shows "$1" || { screen; return 1; }; }
    keys() { tmux -S "$socket" send-keys -t v "$@"; }
    dots() { screen | grep -E '^ n[23] +[●○]+' | tr -dc '●' | wc -m; } # of the selected file, on n2 and n3
    fills() { # the title says that copies are made, and the dots fill meanwhile, one by one
        dots >>filled
        [ "$(dots)" = 36 ]
    }
    ended_with() { screen | grep >/dev/null -E "ended $1"; }
    open() { # COMMAND: in a new terminal of 80x24
        tmux -S "$socket" kill-session -t v 2>/dev/null || true
        tmux -S "$socket" -u new-session -d -s v -x 80 -y 24 \
            "${1:-}$viewed -v 2>>$PWD/view.err; code=\$?; while pgrep -f '^$viewed -v'; do :; done;
            stty -a; echo ended \$code; exec sleep 1000"
    }
    open
    sees 'healthy'
    sees 'empty: u uploads something'
    sees 'n1 +up'
    sees 'n3 +up'
    [ "$(screen | wc -l)" -le 24 ]
    random 9000000 >big
    random 100 >small
    keys u && sees '^upload this file or folder' && keys "$PWD/big" Enter
    sees ' big +8.6 MiB +2x'
    sees 'sha256 [0-9a-f]{40}'
    sees 'n[123] +[●○]{3}'
    same /big big
    dfs --mkdir /dir
    dfs -q -u /dir/small small
    dfs -q -u $'/dir/esc\e[31mape' small
    sees '▸ dir/'
    keys Up Up Right && sees 'small +100 B'
    sees 'esc%1B\[31mape'
    keys '/' && sees '^search' && keys smal Enter
    sees '>.* small'
    keys r && sees '^new path: /dir/small' && keys C-u /dir/moved Enter
    sees ' moved +100 B'
    dfs --stat /dir/moved
    keys '/' moved Enter && sees '>.* moved'
    keys d && sees '^download to' && keys C-u "$PWD/got" Enter
    sees 'done'
    wait_for cmp got small
    keys x && sees 'delete /dir/moved' && keys n
    dfs --stat /dir/moved
    keys x && sees 'delete /dir/moved' && keys y
    wait_for not dfs --stat /dir/moved
    keys U && sees 'take back from the trash: /dir/moved' && keys Enter
    wait_for dfs --stat /dir/moved
    keys m && sees '^new directory' && keys C-u /dir/made Enter
    sees 'made/'
    keys '?' && sees 'ctrl-l' && keys a
    sees 'healthy'
    keys s && sees 'sorted by size'
    tmux -S "$socket" resize-window -t v -x 120 -y 40
    keys Down && sees 'q quit'
    [ "$(screen | wc -l)" = 40 ]
    dfs -q -u /heal big --chunk-size 512K
    sees ' heal +8.6 MiB +2x'
    keys '/' heal Enter && sees '>.* heal'
    crash n1
    sees 'n1 +down'
    sees '^ dfs .* healing .* [0-9]+ copies to make'
    wait_for fills
    [ "$(sort -u filled | wc -l)" -gt 2 ]
    sees 'n1 is lost, whole again after'
    sees '^ dfs .* degraded'
    not shows 'copies to make'
    again n1
    sees 'n1 +up'
    crash m
    sees 'no master: .*'
    again m
    sees 'healthy|healing|degraded'
    sees 'n1 +up'
    keys q
    wait_for ended_with 0
    shows '[^-]echo '
    shows '[^-]icanon'
    # whatever ends it, the terminal is as it was
    for how in 'TERM parent' 'KILL parent' 'ABRT child' 'KILL child' 'HUP child'; do
        open
        sees 'healthy|degraded|healing'
        local pids
        mapfile -t pids < <(pgrep -f "^$viewed -v" | sort -n)
        [ ${#pids[@]} = 2 ]
        if [ "${how#* }" = parent ]; then kill "-${how% *}" "${pids[0]}"; else kill "-${how% *}" "${pids[1]}"; fi
        wait_for ended_with '[0-9]+' || { echo "$how"; screen; return 1; }
        shows '[^-]echo ' || { echo "$how"; screen; return 1; }
        shows '[^-]icanon'
        wait_for not pgrep -f "^$viewed -v"
    done
    # without colour and UTF-8
    open 'NO_COLOR=1 LC_ALL=C '
    sees '[+-] dir/'
    sees '\* n1 +up'
    not grep -P '\e\[3[1-7]m' <(tmux -S "$socket" capture-pane -e -p -t v)
    keys C-c
    wait_for ended_with 0
    TERM=dumb dfs -v | grep >/dev/null 'big  8.6 MiB  2 copies'
    crash tmux
}

# ---- HTTP ----

web() { # PATH [CURL-OPTIONS...]: asks the server in $WEB with the key, and waits for the right end of the answer
    curl -sS --fail-with-body -m $((60 * slow)) -H "Authorization: Bearer $(cat key)" "${@:2}" "http://$WEB$1"
}
code_of() { # PATH [CURL-OPTIONS...]: the status code alone; the body goes to the file `body`
    : >body
    curl -s -o body -w '%{http_code}' -m $((60 * slow)) -H "Authorization: Bearer $(cat key)" "${@:2}" "http://$WEB$1"
}
address_of() { awk '/^listening/ {print $2}' "$1.out"; }

# links without the key, from every server, until they end; files that expire, from lists at once, then from the disks,
# also with nodes away; uploads by form; all of it survives a restart of all
test_links() {
    local WEB who link token all=(m n1 n2 n3) form shared until life=12s i path
    need curl jq python3
    [ "$slow" = 1 ] || life=15s
    sturdy
    export DFS_GRACE=300ms
    cluster 3
    random 5000000 >f
    random 300 >g
    is_gone() { local code=0; dfs --stat "$1" || code=$?; [ "$code" = 2 ]; }
    wait_gone() { wait_for is_gone "$1"; }
    got() { curl -sS -f -m $((60 * slow)) "$1" >got.link && cmp -s got.link "$2"; } # URL LOCAL: without a key
    refused() { [ "$(curl -s -o body -w '%{http_code}' -m $((60 * slow)) "$1")" = 404 ]; }
    at() { echo "http://$(address_of "$1")/download/${2##*/}"; }

    dfs -q -u /docs/f f
    link=$(dfs --share /docs/f)
    token=${link##*/}
    [[ $token =~ ^[0-9a-f]{32}$ ]]
    for who in "${all[@]}"; do got "$(at "$who" "$link")" f; done
    curl -sS -f -r 4194300-4194310 "$link" | cmp - <(dd if=f bs=1 skip=4194300 count=11 status=none)
    curl -sS -f -I "$link" | grep >/dev/null -i '^Content-Disposition: attachment; filename\*=.*f'
    refused "${link%?}$([ "${link: -1}" = 0 ] && echo 1 || echo 0)"
    refused "${link%?}"
    refused "$link/x"
    [ "$(curl -s -o body -w '%{http_code}' -X POST "$link")" = 405 ]
    [ "$(dfs --share | grep -c "$token.*/docs/f")" = 1 ]
    fails 9 --share /docs
    fails 2 --share /none
    fails 2 --unshare /docs/none
    fails 64 --share /docs/f --expire 7
    fails 64 --share /docs/f --expire 999999d

    dfs --mv /docs/f /moved # it goes along, and to the next version; rests in the trash; ends for good
    got "$link" f
    dfs -q -u /moved g
    got "$link" g
    for ((i = 0; i < 15; i++)); do # also while that goes on
        dfs -q -u /moved g
        dfs --mv /moved /there
        dfs --mv /there /moved
    done &
    until=$!
    while kill -0 "$until" 2>/dev/null; do got "$link" g; done
    wait "$until"
    dfs --cp /moved /copy
    [ "$(dfs --share | wc -l)" = 1 ]
    dfs --rm /moved
    refused "$link"
    [ "$(dfs --share)" = '' ]
    dfs --undelete /moved
    got "$link" g
    crash "${all[@]}" # all of them
    again "${all[@]}"
    settled 3
    got "$link" g
    crash m # no master: nodes know the link
    wait_for got "$(at n2 "$link")" g
    again m
    settled 3
    shared=$(dfs --share -j /moved --expire 1h)
    jq -e '.path == "/moved" and .expires > 0' <<<"$shared"
    got "$(jq -r .link <<<"$shared")" g
    dfs --unshare "$link"
    refused "$link"
    fails 2 --unshare "$link"
    { dfs -j --unshare a/../b || true; } | jq -e '.[0].path == "a/../b" and .[0].result == "badrequest"'
    got "$(jq -r .link <<<"$shared")" g
    dfs --unshare /moved
    refused "$(jq -r .link <<<"$shared")"
    link=$(dfs --share /moved --expire $life)
    got "$link" g
    wait_for refused "$link"
    [ "$(dfs --share)" = '' ]

    # over HTTP, with the key; an upload by form
    for who in m n1; do
        WEB=$(address_of "$who")
        link=http://$WEB$(web /api/share -d path=/moved -d expire=2h | jq -r .link)
        got "$link" g
        web /api/shares | jq -e 'any(.path == "/moved" and .expires > 0)'
        web /api/unshare -d path=/moved -d "token=${link##*/}"
        refused "$link"
        [ "$(code_of /api/share -d path=/docs)" = 409 ]
        [ "$(code_of /api/share -d path=/moved -d expire=soon)" = 400 ]
        [ "$(code_of /api/unshare -d path=/moved -d $'token=a\nb')" = 400 ]
        [ "$(curl -s -o body -w '%{http_code}' -d path=/moved "http://$WEB/api/share")" = 401 ]
        [ "$(curl -s -o body -w '%{http_code}' -F file=@f "http://$WEB/upload")" = 401 ]
        form=$(web /upload -F note=nothing -F "file=@f;filename=dir/a \"name\".txt")
        jq -e '.filename == "a \"name\".txt" and .size == 5000000' <<<"$form"
        got "http://$WEB$(jq -r .link <<<"$form")" f
        curl -sS -f -I "http://$WEB/download/$(jq -r .id <<<"$form")" | grep >/dev/null -i "''a%20%22name%22.txt"
        same "$(jq -r .path <<<"$form")" f
        form=$(web /upload -F expire=$life -F file=@g)
        got "http://$(address_of n2)$(jq -r .link <<<"$form")" g
        wait_for refused "http://$WEB$(jq -r .link <<<"$form")"
        form=$(web /upload -F 'file=@g;filename="no.ending"')
        dfs --unshare "http://$WEB$(jq -r .link <<<"$form")"
        refused "http://$WEB$(jq -r .link <<<"$form")"
        dfs --rm "$(jq -r .path <<<"$form")"
        got_by_name() { curl -sS -f -m $((60 * slow)) -H 'Host: some.name' "$1" | cmp - "$2"; }
        link=$(dfs --share /moved)
        got_by_name "http://$WEB/download/${link##*/}" g
        dfs --unshare "$link"
        dfs --ls /uploads | wc -l >listed
        [ "$(code_of /upload -F file=g)" = 400 ]
        [ "$(code_of /upload -T g -X POST)" = 415 ]
        { # slow ones that others overtake: what was stored of them is not dropped
            head -c 4200000 f
            for ((i = 0; i < 20; i++)); do nap $((150 * slow)); head -c 100 g; done
        } | code_of "/files/slow-$who" -T - >slow.code &
        until=$!
        while kill -0 "$until" 2>/dev/null; do web /files/quick -T g >said; nap 100; done
        wait "$until"
        [ "$(cat slow.code)" = 201 ]
        dfs --stat -j "/slow-$who" | jq -e '.size == 4202000'
        curl -s -m 2 --limit-rate 1M -H "Authorization: Bearer $(cat key)" -F file=@f "http://$WEB/upload" || true
        pause 500
        [ "$(dfs --ls /uploads | wc -l)" = "$(cat listed)" ] # what broke off left nothing
    done

    # files that expire: an upload, one by PUT, a folder
    random 700000 >e
    dfs -q -u /first e --expire 1s
    wait_for -t 90 dropped "$(sha <e)" # a master drops nothing in its first seconds
    random 700000 >e
    [ "$(code_of "/files/put?expire=$life" -T g)" = 201 ]
    mkdir -p folder/in && cp e folder/in/e
    dfs -q -u /e e --expire $life
    dfs -q -u /folder folder --expire $life
    dfs --stat /e | grep >/dev/null '^expires '
    dfs --stat -j /folder/in/e | jq -e '.expires > 0'
    dfs --cp /e /kept
    link=$(dfs --share -j /e) # it ends with the file
    [ "$(jq .expires <<<"$link")" = "$(dfs --stat -j /e | jq .expires)" ]
    link=$(jq -r .link <<<"$link")
    wait_gone /e
    refused "$link"
    wait_gone /put
    wait_gone /folder/in/e
    [ "$(dfs --ls -j /folder/in)" = '[]' ]
    dfs --stat -j /kept | jq -e '.expires == null'
    same /kept e
    not grep -E '/e$' <(dfs --undelete) # not in the trash
    dfs --rmdir /folder/in
    dfs --rm /kept
    random 700000 >e
    dfs -q -u /e e --expire $life # nodes are away when it expires
    wait_for held_by /e n1 n2 n3
    stop n3
    wait_for roster_is 2
    wait_gone /e
    wait_for dropped "$(sha <e)"
    again n3
    settled 3
    wait_for dropped "$(sha <e)"
    random 700000 >e
    dfs -q -u /e e --expire $life # all are
    wait_for held_by /e n1 n2 n3
    until=$(dfs --stat -j /e | jq .expires)
    dfs -q -u /dir/over e --expire $life
    dfs -q -u /dir/stays g
    link=$(dfs --share /e)
    crash "${all[@]}"
    over() { [ "$(date +%s)" -gt "$until" ]; }
    wait_for over
    again n1 n2 n3
    by_nodes() { dfs --ls >seen; }
    wait_for by_nodes # no master: a node alone knows that it is over
    grep -q moved seen
    not grep ' e$' seen
    master m "${ADDR[m]}" --grace 20s # for so long it is out of sight only, and in nobody's way
    settled 3
    is_gone /dir/over
    fails 2 --stat /e
    [ "$(dfs --ls /dir | wc -l)" = 1 ]
    dfs -q -u /e g --no-clobber
    same /e g
    refused "$link" # it was of the file before
    dfs --cp /dir /copied
    [ "$(dfs --ls /copied | wc -l)" = 1 ]
    dfs -q -u /dir/over/in/it g # what was a file can be a directory
    dfs --rm -r /dir
    stop m
    again m
    settled 3
    wait_for -t 90 dropped "$(sha <e)"
    wait_for agreed

    # who holds a chunk changes while it is on its way to a slow reader; then nobody does
    WEB=$(address_of m)
    random 9000000 >f
    dfs --mkdir /one
    dfs --copies 1 /one
    dfs -q -u /one/f f
    wait_for state healthy
    wait_for copies_are 1 /one
    who=$(dfs --stat -j /one/f | jq -r '.chunks[-1].nodes[0]')
    web /files/one/f --limit-rate 2M >got.slow &
    until=$!
    dfs --drain "$who"
    stop "$who"
    wait "$until"
    cmp got.slow f
    wait_for copies_are 1 /one
    who=$(dfs --stat -j /one/f | jq -r '.chunks[0].nodes[0]')
    crash "$who"
    for path in file files; do
        [ "$(code_of "/$path/one/f")" = 503 ]
        jq -e '.errorCode == 4 or .error.word == "unavailable"' body
    done
}

# files by HTTP: up, down, in part, under conditions; from master and node; what comes one way is seen in all others
test_http() {
    local etag old WEB who method path
    need curl jq
    sturdy
    export DFS_GRACE=1s
    cluster 3
    random 9000000 >f
    random 100 >small
    for who in m n1; do
        WEB=$(address_of $who)
        web "/files/$who/f%20%C3%A4" -T f | jq -e ".size == 9000000 and .sha256 == \"$(sha <f)\""
        web "/files/$who/f%20%C3%A4" | cmp - f
        same "/$who/f ä" f
        web "/files/$who/f%20%C3%A4" -r 4194300-4194310 | cmp - <(tail -c +4194301 f | head -c 11)
        web "/files/$who/f%20%C3%A4" -r -5 | cmp - <(tail -c 5 f)
        head -c 5000000 f >part
        web "/files/$who/f%20%C3%A4" -C - -o part
        cmp part f
        if command -v wget >/dev/null; then
            head -c 5000000 f >got.wget
            wget -q -c --user=any --password="$(cat key)" -O got.wget "http://$WEB/files/$who/f%20%C3%A4"
            cmp f got.wget
        fi
        [ "$(code_of "/files/$who/none")" = 404 ]
        [ "$(code_of "/files/$who")" = 409 ]
        [ "$(code_of "/files/$who/small" -T small)" = 201 ]
        etag=$(web "/files/$who/small" -I | tr -d '\r' | sed -n 's/^ETag: //p')
        [ "$etag" = "\"$(sha <small)\"" ]
        [ "$(code_of "/files/$who/small" -H "If-None-Match: $etag")" = 304 ] && [ ! -s body ]
        [ "$(code_of "/files/$who/small" -H "If-Match: $etag")" = 200 ]
        [ "$(code_of "/files/$who/small" -T f -H "If-None-Match: *")" = 412 ]
        [ "$(code_of "/files/$who/small" -T f -H "If-Match: \"$(sha <f)\"")" = 412 ]
        same "/$who/small" small
        [ "$(code_of "/files/$who/small" -T f -H "If-Match: $etag")" = 200 ]
        same "/$who/small" f
        old=$(web "/files/$who/small" -I | tr -d '\r' | sed -n 's/^Last-Modified: //p')
        [ "$(code_of "/files/$who/small" -H "If-Modified-Since: $old")" = 304 ]
        [ "$(code_of "/files/$who/small" -r 0-9 -H "If-Range: $etag")" = 200 ]
        [ "$(code_of "/files/$who/small" -r 0-9 -H "If-Range: \"$(sha <f)\"")" = 206 ]
        web "/files/$who/piped" -T - <f | jq -e '.size == 9000000' # chunked
        same "/$who/piped" f
        [ "$(code_of "/files/$who/piped" -X DELETE)" = 200 ]
        fails 2 --stat "/$who/piped"
        # JSON says the same as the command line, as soon as nothing changes any more
        alike() { diff <(web "$1" | jq -S "$2") <("${@:3}" | jq -S .); } # PATH FILTER COMMAND...
        wait_for state healthy
        wait_for alike "/api/list?path=/&recursive=1" . dfs --ls -r -j /
        wait_for alike "/api/stat?path=/$who/small" . dfs --stat -j "/$who/small"
        wait_for alike "/api/list?path=/&glob=sm*" . dfs --find -j 'sm*' /
        wait_for alike "/api/list?path=/&glob=n?/f*" . dfs --find -j 'n?/f*' /
        wait_for alike "/api/du?path=/" . dfs --du -j /
        wait_for alike /api/trash . dfs --undelete -j
        wait_for alike "/api/events?after=0" '.[]' dfs --events -j
        steady() { status -j | jq 'del(.nodes, .copy_rate)'; }
        wait_for alike /api/status 'del(.nodes, .copy_rate)' steady
        web /api/mkdir -d "path=/$who/dir"
        web /api/move -H 'Content-Type: application/json' -d "{\"from\":\"/$who/small\",\"to\":\"/$who/dir/s\"}"
        web /api/copy -d "from=/$who/dir" -d "to=/$who/copy"
        same "/$who/copy/s" f
        web /api/remove -d "path=/$who/copy" -d recursive=1
        fails 2 --ls "/$who/copy"
        web /api/undelete -d "path=/$who/copy"
        same "/$who/copy/s" f
        [ "$(code_of /api/rmdir -d "path=/$who/copy")" = 409 ]
        [ "$(code_of /api/move -d "from=/none" -d "to=/x")" = 404 ]
        # the older interface
        base64 -w40 small >small.64 # in lines
        web /file -d "filename=old-$who" --data-urlencode "file@small.64" | jq -e ".filename == \"old-$who\" and .id"
        same "/old-$who" small
        web "/file/old-$who" | jq -r .file | base64 -d | cmp - small
        web "/file/$who%2Fdir" >said && return 1
        [ "$(code_of /file -d "filename=old-$who" --data-urlencode "file@small.64")" = 409 ]
        jq -e '.errorCode == 3 and .data' body
        [ "$(code_of "/file/none")" = 404 ] && jq -e '.errorCode == 2' body
        [ "$(code_of /file -d "filename=x" -d 'file=%%%')" = 400 ]
        jq -n --arg f "$(base64 -w0 <small)" "{filename: \"json-$who\", file: \$f}" |
            web /file -H 'Content-Type: application/json' -d @-
        same "/json-$who" small
        web "/file/json-$who" -X DELETE
        fails 2 --stat "/json-$who"
        dfs -q -u "/odd-$who" f # not a multiple of three, several chunks
        web "/file/odd-$who" | jq -r .file | base64 -d | cmp - f
        web /healthz | grep >/dev/null -x healthy
        web /metrics | grep >/dev/null -x 'dfs_up 1'
        [ "$(web /active-nodes | jq length)" = 3 ]
        timeout 3 curl -sN -H "Authorization: Bearer $(cat key)" "http://$WEB/api/live" >said || true
        grep -q '^data: {"state":"healthy"' said
        grep -q '^data: {"number":.*joined' said
    done
    # the manual has all routes
    web /api/ >routes
    [ "$(wc -l <routes)" -gt 25 ]
    while read -r method path _; do
        grep -qF "\`$method $path" "$here/docs/HTTP.md" || die "$method $path is not in docs/HTTP.md"
    done <routes
    # chunks, on nodes
    etag=$(sha <small)
    web /chunk -H "X-Dfs-Sha256: $etag" --data-binary @small | jq -e ".sha256 == \"$etag\""
    web "/chunk/$etag" | cmp - small
    [ "$(code_of /chunk -H "X-Dfs-Sha256: $(sha <f)" --data-binary @small)" = 400 ]
    [ "$(code_of "/chunk/$(sha <f)")" = 404 ]
    # a broken upload leaves nothing
    curl -s -m 2 --limit-rate 500K -H "Authorization: Bearer $(cat key)" -T f "http://$WEB/files/broken" || true
    printf 'PUT /files/broken HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Length: 9\r\n\r\nabc' \
        "$(cat key)" >"/dev/tcp/$ip/${WEB##*:}"
    fails 2 --stat /broken
    # the key: as password, as the page's cookie
    [ "$(curl -s -o body -w '%{http_code}' "http://$WEB/api/status")" = 401 ]
    curl -s -u "any:$(cat key)" "http://$WEB/api/status" | jq -e '.state'
    curl -s -c jar -d "key=$(cat key)" "http://$WEB/login"
    grep -q "^#HttpOnly_$ip" jar
    curl -s -b jar "http://$(address_of m)/api/status" | jq -e '.state == "healthy"'
    [ "$(curl -s -b jar -o body -w '%{http_code}' -T small "http://$WEB/files/c")" = 403 ]
    [ "$(curl -s -b jar -H 'X-Dfs: 1' -o body -w '%{http_code}' -T small "http://$WEB/files/c")" = 201 ]
    grep -o 'dfs	.*' jar | cut -f2 | tr 0-7 1-70 >forged # every digit up to 7 is another one
    [ "$(curl -s -H "Cookie: dfs=$(cat forged)" -o body -w '%{http_code}' "http://$WEB/api/status")" = 401 ]
    # names that this server goes by, and what needs no key
    [ "$(code_of / -H 'Host: files.example')" = 421 ]
    stop n2
    rm n2.out
    n2=1 "$DFS" node n2 -k key -l 127.0.0.1:0 --http-host 'a.example,files.example' --open-metrics >n2.out 2>>n2.err &
    PID[n2]=$!
    wait_for grep -q listening n2.out
    WEB=$(address_of n2)
    [ "$(code_of / -H 'Host: files.example')" = 200 ]
    [ "$(code_of / -H 'Host: file.example')" = 421 ]
    wait_for curl -sf -o body "http://$WEB/healthz"
    curl -sf "http://$WEB/metrics" | grep >/dev/null '^dfs_files '
    # a chunk that is damaged on this node's disk is never sent
    wait_for roster_is 3
    random 3000000 >d
    dfs -q -u /damaged d
    wait_for held_by /damaged n1 n2 n3
    python3 - n2 d <<'EOF'
import pathlib, sys
want = pathlib.Path(sys.argv[2]).read_bytes()[1000:1064]
for f in pathlib.Path(sys.argv[1], "log").rglob("*"):
    if f.is_file() and (at := f.read_bytes().find(want)) >= 0:
        with open(f, "r+b") as o:
            o.seek(at)
            o.write(bytes(64))
EOF
    [ "$(code_of "/chunk/$(sha <d)")" = 404 ]
    web /files/damaged | cmp - d
    log_says n2 DAMAGED
    # the cluster without its master: what nodes know is read, the rest says so
    crash m
    web /files/m/dir/s | cmp - f
    [ "$(code_of /files/x -T small)" = 503 ]
    [ "$(code_of /healthz)" = 503 ]
}

# 200 raw requests and more, most of them wrong: each has its status, and what stands behind an error is never run
test_http_raw() {
    need python3
    fast
    cluster 2
    python3 "$here/.ci/http_raw.py" "$(address_of m)" key
    python3 "$here/.ci/http_raw.py" "$(address_of n1)" key
    not grep -E 'ERROR|runtime error' m.err n1.err
}

# slow clients beside a quick one; many connections; few descriptors; large files in constant memory
test_http_load() {
    local count=500 size=1G WEB who
    need python3 curl jq
    below() { [ "$(rss_kb "${PID[$1]}")" -lt "$2" ]; }
    [ "$slow" = 1 ] || count=60 size=64M
    [ -z "$long" ] || size=5G
    sturdy
    cluster 2
    random 30000000 >f
    dfs -q -u /f f
    wait_for held_by /f n1 n2
    python3 "$here/.ci/http_slow.py" "$(address_of m)" key "$count" /f
    python3 "$here/.ci/http_slow.py" "$(address_of n1)" key "$count" /f
    [ -z "$(dfs --find 'slow*')" ]
    truncate -s "$size" sparse
    for who in m n1; do
        WEB=$(address_of $who)
        web / >page
        web /files/big -T sparse | jq -e ".size == $(stat -c %s sparse)"
        web /files/big -o /dev/null -w '%{size_download}' >got
        [ "$(cat got)" = "$(stat -c %s sparse)" ]
        echo "$who: $(rss_kb "${PID[$who]}") KiB resident after $size up and down"
        [ "$slow" != 1 ] || [ "$(rss_kb "${PID[$who]}")" -lt 230000 ] # all 48 buffers, and then none of them
        [ "$slow" != 1 ] || wait_for below "$who" 60000
        dfs --rm /big
    done
    if command -v ab; then
        ab -q -n 50000 -c 100 "http://$(address_of n1)/app.css" >ab.said
        grep -E 'Failed|Non-2xx|per second' ab.said
        grep -q '^Failed requests: *0$' ab.said
        not grep Non-2xx ab.said
    fi
    WEB=$(address_of n1)
    [ "$(web /files/f | sha)" = "$(sha <f)" ]
    stop n1
    rm n1.out
    (ulimit -n 64 && exec "$DFS" node n1 -k key -l 127.0.0.1:0 >n1.out 2>>n1.err) &
    PID[n1]=$!
    wait_for grep -q listening n1.out
    WEB=$(address_of n1)
    python3 - "$WEB" <<'EOF'
import socket, sys
host, port = sys.argv[1].rsplit(":", 1)
socks = []
for i in range(300):
    try:
        s = socket.create_connection((host, int(port)))
        socks.append(s)
        s.sendall(b"GET / HTTP/1.1\r\n")
    except OSError: # it was one too many, and closed at once
        pass
EOF
    wait_for web /api/status
    web /files/f | cmp - f
}

# downloads from a node beside nginx with the same file, in turn: large, and small ones over kept connections
test_http_speed() {
    local size=256M round theirs ours ratio port WEB
    need curl nginx ab python3
    [ -z "$long" ] || size=1G
    fast
    cluster 1
    head -c "$size" /dev/urandom >f
    random 1000 >s
    dfs -q -u /f f
    dfs -q -u /s s
    WEB=$(address_of n1)
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    cat >nginx.conf <<EOF
daemon off; pid $PWD/nginx.pid; error_log $PWD/nginx.err; worker_processes 2; user $(id -un);
events { worker_connections 256; }
http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; client_body_temp_path $PWD/t1;
    proxy_temp_path $PWD/t2; fastcgi_temp_path $PWD/t3; uwsgi_temp_path $PWD/t4; scgi_temp_path $PWD/t5;
    server { listen 127.0.0.1:$port; root $PWD; location ~ /key { deny all; } } }
EOF
    nginx -c "$PWD/nginx.conf" 2>nginx.said &
    PID[nginx]=$!
    wait_for curl -sf -o /dev/null "http://127.0.0.1:$port/s"
    median() { sort -n | awk '{a[NR] = $1} END {print a[int((NR + 1) / 2)]}'; }
    for round in 1 2 3 4 5 6 7; do # the first warms up
        curl -s -o /dev/null -w '%{speed_download}\n' "http://127.0.0.1:$port/f" >>theirs
        web /files/f -o /dev/null -w '%{speed_download}\n' >>ours
    done
    theirs=$(tail -n +2 theirs | median) ours=$(tail -n +2 ours | median)
    ratio=$((100 * ours / theirs))
    echo "$size: $((ours / 1000000)) MB/s, nginx $((theirs / 1000000)) MB/s: $ratio %"
    : >theirs && : >ours
    for round in 1 2 3 4 5; do
        ab -q -k -n 20000 -c 16 "http://127.0.0.1:$port/s" | awk '/per second/ {print int($4)}' >>theirs
        ab -q -k -n 20000 -c 16 -H "Authorization: Bearer $(cat key)" "http://$WEB/files/s" |
            awk '/per second/ {print int($4)}' >>ours
    done
    theirs=$(median <theirs) ours=$(median <ours)
    echo "1 KB: $ours/s, nginx $theirs/s: $((100 * ours / theirs)) %"
    stop nginx
    [ -z "$long" ] || { [ "$ratio" -ge 90 ] && [ $((100 * ours / theirs)) -ge 60 ]; }
}

# the page in Chromium, as people use it
test_page() {
    local modules=${PLAYWRIGHT:-/usr/lib/node_modules} code=0
    need node chromium
    [ -d "$modules/playwright-core" ] || skip "no playwright-core in $modules; PLAYWRIGHT says where it is"
    sturdy
    cluster 3 --copies 2 # so that something has to be copied when one is killed
    BASE=http://$(address_of m) NODE=http://$(address_of n1) KEY=$(cat key) \
        KILL="kill -9 ${PID[n3]}" \
        REVIVE="cd '$PWD' && { '$DFS' node n3 -k key -l 127.0.0.1:0 >n3.out 2>>n3.err & echo \$! >n3.pid; }" \
        timeout $((300 * slow)) node "$here/.ci/page.js" "$modules" || code=$?
    kill -9 "${PID[n3]}" || true # if the script did not come so far
    unset "PID[n3]"
    [ ! -e n3.pid ] || kill -9 "$(cat n3.pid)" # it is a child of the browser's script
    return $code
}

# whole folders go up and down while the master and nodes are killed: the client carries on, or ends with the right code
test_carry_on() {
    local round code job n
    need jq
    fast
    cluster 3
    pick 400
    for round in $(seq "$(rounds 4 2)"); do
        code=0
        rm -rf back
        (dfs -q -u "/r$round" tree && dfs -q -d "/r$round" back) &
        job=$!
        pause 1500
        n=n$((RANDOM % 3 + 1))
        case $((round % 3)) in
        0) crash m; pause 300; again m ;;
        1) crash "$n"; pause 1000; again "$n" ;;
        2) crash m "$n"; pause 300; again m "$n" ;;
        esac
        wait $job || code=$?
        echo "round $round: exit code $code"
        if [ "$code" = 0 ]; then
            alike tree back
        else
            [[ $code =~ ^(1|4|12|13)$ ]]
            wait_for roster_is 3
            settled 3
            dfs -q -u "/r$round" tree
            dfs -q -d "/r$round" back
            alike tree back
        fi
        wait_for roster_is 3
    done
    wait_for agreed
}

# the rules of style that a script can check
test_tidy() {
    local bad='' exempt='^$' list # exempt: functions that may be longer, by name
    need ctags shellcheck
    cd "$here" || return
    complain() { bad=1; echo "$1"; }
    list=$(ctags -x --kinds-C=f --fields=+e --_xformat='%{end} %n %N' dfs.c |
        awk -v exempt="$exempt" '$1 - $2 >= 70 && $3 !~ exempt {print $3, $1 - $2 + 1}')
    [ -z "$list" ] || complain "functions of more than 70 lines: $list"
    list=$(awk 'length > 120 {print FILENAME ":" FNR}' dfs.c test.sh .ci/*[!z]) # but for what is packed
    [ -z "$list" ] || complain "more than 120 columns: $list"
    list=$(ctags -x --kinds-C=p dfs.c | awk '$1 !~ /^((proto|http)_help|LLVMFuzzer.*)$/ {print $1}')
    [ -z "$list" ] || complain "declared ahead: $list"
    list=$(diff <(sed -nE 's|^/\* ={6,} ([0-9]+\. .*[^ =]) *=* \*/$|\1|p' dfs.c) \
        <(sed '/^ \*\/$/q' dfs.c | sed -nE 's|^ \* +([0-9]+\. [A-Za-z, -]*[A-Za-z])  .*|\1|p') || true)
    [ -z "$list" ] || complain "banners (<) and the map at the head (>) differ: $list"
    list=$(grep -nE '\b(strto[a-z]+|ato[ifl]+|[vfs]*scanf|strn?cpy|strn?cat|v?sprintf|gets|alloca) *\(' \
        dfs.c vendor/*.h || true)
    [ -z "$list" ] || complain "unsafe calls: $list"
    list=$(grep -nE '\b(TO''DO|FIX''ME|XX''X|HA''CK)\b' dfs.c test.sh .ci/*[!z] vendor/* README.md docs/* Makefile ||
        true)
    [ -z "$list" ] || complain "left open: $list"
    list=$(grep -nE '^\s*sleep [0-9]' test.sh .ci/* || true)
    [ -z "$list" ] || complain "tests that wait by sleeping: $list"
    # the disk is touched in section System only, and by the calls around a descriptor that can't fail for long
    list=$(awk '/^\/\* =+ 4\. /{skip=1} /^\/\* =+ 5\. /{skip=0} !skip {print FNR ": " $0}' dfs.c | sed 's|/\*.*||' |
        grep -E '(^|[^a-z_])(open|openat|creat|p?readv?|p?writev?|rename|fsync|fdatasync|fopen|fwrite|ftruncate)\(' |
        grep -vE '^[0-9]+: +"|stdout\)|STDERR_FILENO|stop_pipe|"/dev/null"' || true)
    [ -z "$list" ] || complain "raw system calls outside of System: $list"
    list=$(git ls-files 2>/dev/null | sed 's|/.*||' | sort -u |
        grep -vxE 'Makefile|README\.md|dfs\.c|vendor|test\.sh|docs|\.ci|\.gitignore|\.clang-format|LICENSE' || true)
    [ -z "$list" ] || complain "does not belong at the top: $list"
    shellcheck test.sh .ci/run || complain "shellcheck"
    [ -z "$bad" ]
}

counted() { [ "$(dfs --nodes | awk -v n="$1" '$5 == n' | wc -l)" = 3 ]; } # all nodes say that they have N files
demo() {
    name=demo
    mkdir "$work/demo"
    cd "$work/demo" || exit 1
    trap 'for p in "${PID[@]}"; do kill -9 "$p" 2>/dev/null; done; rm -rf "$work"' EXIT
    set -eE
    export DFS_PING=100ms DFS_DEAD_AFTER=1s
    local n
    run() { echo "\$ dfs $*"; "$DFS" "$@"; }
    echo "A master and three nodes:"
    cluster 3
    run -u /demo/dfs "$DFS"
    for n in README.md Makefile dfs.c test.sh vendor/json.h vendor/sha256.h; do run -q -u "/demo/$n" "$here/$n"; done
    run -d /demo/dfs copy
    cmp copy "$DFS"
    run -q -d /demo/dfs.c copy.c
    cmp copy.c "$here/dfs.c"
    echo "the copy is equal"
    wait_for state healthy
    wait_for counted 7
    run -v /demo
    run --stat /demo/dfs
    run --nodes
    stop "${!PID[@]}"
    echo "all ended"
}

# ---- The runner ----

stray() { # FOLDER: processes that are in it
    local p
    for p in /proc/[0-9]*; do [[ $(readlink "$p/cwd" 2>/dev/null)/ != "$1"/* ]] || echo "${p#/proc/}"; done
}
watchdog() { # SHELL FOLDER: ends what a test runs if it is not over in this time, so that it fails
    local limit=$((900 * slow)) p
    [ -z "$long" ] || limit=7200
    nap $((limit * 1000))
    echo "not over within $limit s: what it runs is killed" >"$work/late.$1"
    for p in $(stray "$2"); do [ "$p" = "$1" ] || [ "$p" = "$BASHPID" ] || kill -9 "$p"; done
    nap 60000 # it should end by itself now
    kill "$1"
}
one() ( # NAME NUMBER: runs a test; its verdict is the exit code: 0, 1, or 77 for skipped
    name=$1
    mkdir -p "$work/$name"
    cd "$work/$name" || exit 1
    ip=127.1.1.$2
    exec >"$work/$name.log" 2>&1
    trap 'kill "$dog" || true; for p in "${PID[@]}"; do kill -9 "$p" || true; done; hosts_end "dfs$$-$name-"
        disks_end "$PWD"' EXIT
    trap 'echo "test.sh:$LINENO: exit code $?: $BASH_COMMAND" >&2' ERR
    shell=$BASHPID
    watchdog "$shell" "$PWD" &
    dog=$!
    export HOME=$PWD
    RANDOM=$((seed % 32768))
    set -eE
    "test_$name"
    [ ${#PID[@]} = 0 ] || stop "${!PID[@]}"
    [ ! -e "$work/late.$shell" ] || die "$(<"$work/late.$shell")"
    if grep -rlE "$alarm" --include='*.err' . >&2; then die "the logs named above say more"; fi
)
report() { # NAME CODE SECONDS
    local file
    case $2 in
    0) passed=$((passed + 1)); echo "ok   $1 ($3 s)" ;;
    77) skipped=$((skipped + 1)); echo "skip $1: $(cat "$work/$1.skip")" ;;
    *)
        failed=$((failed + 1))
        echo "FAIL $1 ($3 s)"
        for file in "$work/$1.log" "$work/$1"/*.err; do
            [ -s "$file" ] && echo "---- ${file##*/}" && {
                grep -m 1 -A 20 -E "$alarm" "$file" || grep -v ' Killed  *WHO=' "$file" | tail -n 8
            }
        done
        ;;
    esac
    [ -n "$keep" ] || rm -rf "${work:?}/$1"
}

mapfile -t all < <(sed -n 's/^test_\([a-z_0-9]*\)() .*/\1/p' "$self")
demo_only=''
while [ $# -gt 0 ]; do
    case $1 in
    --list)
        awk '/^# ./ {said = said substr($0, 2); next}
            /^test_.*\(\) / {sub(/\(.*/, ""); printf "%-17s%s\n", substr($0, 6), said} {said = ""}' "$self"
        exit
        ;;
    --long) long=1 ;;
    --keep) keep=1 ;;
    --demo) demo_only=1 ;;
    --seed) seed=$2; shift ;;
    -j) parallel=$2; shift ;;
    -*) die "unknown option $1; see the head of $self" ;;
    *) [[ " ${all[*]} " == *" $1 "* ]] || die "no test $1; --list lists them"; names+=("$1") ;;
    esac
    shift
done
[ -x "$DFS" ] || die "no binary $DFS: run make"
for v in $(compgen -v DFS_); do unset "$v"; done
work=$(mktemp -d)
if grep -qaE '__(asan|tsan)_init' "$DFS"; then slow=5; fi
export ASAN_OPTIONS=exitcode=99 UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=exitcode=66
unset XDG_CONFIG_HOME XDG_CACHE_HOME NO_COLOR EDITOR VISUAL TMUX
export SHELL=/bin/sh LC_ALL=C.UTF-8 no_proxy='*' NO_PROXY='*' # what runs here does not depend on who runs it
if [ -n "$demo_only" ]; then demo; exit; fi
cleanup() {
    stray "$work" | xargs -r kill -9 2>/dev/null
    hosts_end "dfs$$-"
    disks_end "$work"
    if [ -n "$keep" ]; then echo "all is kept in $work"; else rm -rf "$work"; fi
}
trap cleanup EXIT
trap 'exit 130' INT TERM
[ ${#names[@]} -gt 0 ] || names=("${all[@]}")
passed=0 failed=0 skipped=0
declare -A running=() begun=()
collect() { # waits for one test to end
    local pid code=0
    wait -n -p pid "${!running[@]}" || code=$?
    report "${running[$pid]}" "$code" "$((SECONDS - begun[$pid]))"
    unset "running[$pid]"
}
echo "seed $seed, $DFS"
number=0
for name in "${names[@]}"; do
    while [ ${#running[@]} -ge "$parallel" ]; do collect; done
    number=$((number % 250 + 1))
    one "$name" "$number" &
    running[$!]=$name begun[$!]=$SECONDS
done
while [ ${#running[@]} -gt 0 ]; do collect; done
left=$(stray "$work")
[ -z "$left" ] || { echo "FAIL processes left behind:" "$left"; failed=$((failed + 1)); xargs kill -9 <<<"$left"; }
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
