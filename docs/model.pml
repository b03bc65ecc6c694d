/* What keeps acknowledged changes: roster, epochs, take-over, lease and catching up of dfs.c, for the checker Spin.
 *
 *   make model                         what .ci/model runs: small instances, and each weakened rule
 *   spin -a -DN=3 -DWRITES=1 docs/model.pml && gcc -O2 -w -DSAFETY -DCOLLAPSE -o pan pan.c && ./pan -E -m1000000
 *   make model RULE=HALFTAKE           how it fails with one rule weakened, step by step
 *
 * Checked, by assertions:
 *  - All records that any master ever commits lie on one line of history (`acknowledge`). So no acknowledged change is
 *    missing from a later master's tree; two masters never both acknowledge, but for a late answer to a change that the
 *    later one has in its tree; and what was dropped with a tail, or removed, does not come back.
 *  - A read that is answered as current holds everything that was acknowledged before it began, and nothing that is
 *    lost later (the step "its answer goes out").
 *  - A node that may answer reads by itself, because its tree ends where the master's did, never has less than what is
 *    acknowledged, nor anything that is not.
 *  - Epoch and seq are enough to compare histories, as `tree_continues`, `node_records` and `tree_apply` do it: a
 *    record is never applied behind another history than the one that it was made behind. Parts of two snapshots are
 *    never mixed, and none takes a node back.
 *
 * Names are those of dfs.c. What corresponds to what:
 *
 *   here                               in dfs.c
 *   record 0, 1, 2, ...                a transaction; 0 is none, 1 founded the cluster; `history`: all before it
 *   a set of nodes, a roster           a number whose bit i stands for node i
 *   log[i]                             node.tree.at, and so the whole tree: all that this node has on disk
 *   promised[i], promised_to[i]        node.store.promised, promised_to
 *   loading[i]                         node.loading: a snapshot of which the first part is there
 *   tree                               master.tree.at
 *   told, acked[i], streaming          peer.agreed; peer.at, then peer.acked; peer.streaming
 *   flight                             the node has synced it, and the answer has not come yet
 *   first                              master.history_first
 *   held, held_at                      node.hold_until_ms has not come, node.current; master.hold_until_ms
 *   roster, next_roster, next_at       master.roster, next_roster, next_roster_seq
 *
 * One step is one thing that a process does under its lock, or a whole request at a node, from its arrival to the sync.
 * A message that is lost, a node that is down, slow or cut off: a step that does not happen. A message that is late: a
 * step that happens later; where that makes a difference, it is a step of its own (the answers to PROMISE, RECORDS and
 * INSTALL; an INSTALL of a connection that broke). A master that dies: `reign_end`; it or the next one begins again.
 * RECORDS carries one record here; a batch is the same as several at once.
 *
 * Time. There is no clock. A node that is not counted on may always promise (its master may have been silent for
 * dead-after); a master may think anybody lost. The lease is a window: it opens dead-after before a read is answered. A
 * node that has heard a pong (or PROMISE or RECORDS) sent in that window can't have been free when it closes, because
 * dead-after has not passed since then: it is in `lease`, and promises to no other master until the window is closed.
 * Pongs sent before the window are not in it, however late they or their echoes arrive: the master compares its own
 * stamps (`lease_from`). So one window at a time says all about one read; READS of them follow each other. A node's leave
 * to answer reads by itself (`hold_may`) ends when the window closes: its lease is looked at as of then.
 *
 * Weakened rules, for each of which spin must find an error (this is the model's own test):
 *
 *   HALFTAKE      half of the roster is enough for a take-over
 *   ANYSHRINK     a master goes on with any nodes that are left
 *   ONEWRITE      a record is acknowledged when one node of the roster has it
 *   SAMEEPOCH     a node promises one epoch to two masters
 *   NOFENCE       a node takes records of a master that it did not promise to
 *   LAZYPROMISE   a promise is not on disk before the answer: a node that starts again has forgotten it
 *   LAZYSYNC      a record is not on disk before the answer
 *   KEEPTAIL      a node that comes back keeps its tail, and records do not say which epoch they follow
 *   EARLYLEARNER  a node counts as caught up when the first part of its snapshot is there
 *   ANYINSTALL    a node takes any INSTALL of the reign, also on another connection than that of the last PROMISE
 *   BLINDLEASE    nodes promise while the master counts on them; the same as counting pongs by when their echo came
 *   ANYLEASE      one node is enough for the lease
 *   FREESTART     a node that starts again does not wait for dead-after before it promises
 *   NOSETTLE      a read does not wait until what it shows is acknowledged
 *   HOLDANY       a node that is not in the roster may answer reads by itself
 *   HOLDOPEN      a node may, though not all that its tree holds is acknowledged
 *   HOLDCHANGE    a node may, while the roster changes
 *   HOLDFREE      a node may, though the master has no lease
 *   HOLDSHRINK    a node leaves the roster though it may still answer reads
 *   HOLDRETAKE    a master takes over again while a node may still answer reads by leave of its last reign
 *
 * What was searched to the end, without a failure (states; make model does the first five):
 *
 *   2 nodes, 2 epochs, 4 records, 1 write, 1 window          925,578      5 records: 2,867,424; 1 hold: 1,262,744
 *   2 nodes, 3 epochs, 5 records, 1 write                  1,724,203
 *   3 nodes, 2 epochs, 4 records, 1 write                  1,765,628      3 epochs: 32,027,521
 *   3 nodes, 2 epochs, 2 records, 1 window                   313,244      3 records, 1 write: 6,556,490
 *                                                                         1 hold: 404,111
 *   1 node and a learner, 2 epochs, 5 records, 1 write,
 *     1 broken connection, 1 crash                           609,362
 *   2 nodes, 2 epochs, 4 records, 1 write, 2 broken c.       289,090
 *   2 nodes and a learner, 2 epochs, 4 records, 1 write    2,467,698      1 broken connection: 11,040,135
 *   4 nodes, 2 epochs, 3 records, 1 write                  9,530,923
 *
 * All with two masters. Not searched to the end, and no failure as far as it went: 3 nodes, 2 epochs, 4 records, 1
 * write, 1 window (29 million states); 2 nodes, 3 epochs, 5 records, 1 write, 1 window (25 million); 2 nodes and a
 * learner, 2 epochs, 4 records, 1 write, 1 broken connection, 1 crash (16 million). Nothing larger was tried: what
 * needs more nodes, masters, epochs, records or windows at once than these to go wrong would not have been seen.
 *
 * Left out: contents of files (which disks hold a chunk), --init and its founders, --force-from, disks that are damaged
 * or fail, two processes with one node id, different dead-after times, a master that has forgotten the older records of
 * its own reign (`history_trim`; here only a node that lacks more than this reign gets a snapshot), limits (64 reigns,
 * request ids), and everything about when things happen: that a master does come to reign is for test.sh to show.
 */
#ifndef N
#define N 3 /* nodes; at most 4 */
#endif
#ifndef MEMBERS
#define MEMBERS N /* the first of them are the roster at the beginning; the others are blank */
#endif
#ifndef MASTERS
#define MASTERS 2
#endif
#ifndef EPOCHS
#define EPOCHS 3 /* the highest; the first master reigns by epoch 1 at the beginning */
#endif
#ifndef RECORDS
#define RECORDS 6 /* with the first one, those that begin reigns and those that change the roster; at most 14 */
#endif
#ifndef WRITES
#define WRITES 1
#endif
#ifndef READS
#define READS 0 /* windows of a lease */
#endif
#ifndef HOLDS
#define HOLDS 0 /* times that a node is allowed to answer reads by itself until the window closes */
#endif
#ifndef BREAKS
#define BREAKS 0 /* connections that break; an INSTALL may be in flight on one of them */
#endif
#ifndef CRASHES
#define CRASHES 0 /* nodes that die and start again */
#endif

#define BIT(i) (1 << (i))
#define HAS(set, i) (((set) >> (i)) & 1)
#define COUNT(set) (HAS(set, 0) + HAS(set, 1) + HAS(set, 2) + HAS(set, 3))

/* ---- Records ---- */

byte records = 1;            /* made so far */
byte before[RECORDS + 1];    /* the record that this one was made behind */
byte epoch_of[RECORDS + 1], seq_of[RECORDS + 1];
byte roster_of[RECORDS + 1]; /* the newest roster in its history */
byte roster_at[RECORDS + 1]; /* the record that made that roster */
short history[RECORDS + 1];  /* the set of records from the first to this one */

#define CONTAINS(x, y) HAS(history[x], y)
#define NEWER(x, y) (epoch_of[x] > epoch_of[y] || (epoch_of[x] == epoch_of[y] && seq_of[x] > seq_of[y]))

/* ---- Nodes: on disk, but for `loading` ---- */

byte log[N], promised[N], promised_to[N], loading[N];

/* ---- The world ---- */

mtype = { WAITING, PROMISING, ESTABLISHING, REIGNING, NOTHING, FIRST, LAST, WHOLE };

byte acknowledged = 1;       /* the newest record that a client may have been told of */
byte writes = 0, reads = 0, breaks = 0, crashes = 0;
mtype late = NOTHING;        /* an INSTALL in flight on a connection that broke: its part, */
byte late_node = 0, late_from = 0, late_at = 0; /* the node, the master, the snapshot */

byte reader = MASTERS;       /* the master whose window is open; MASTERS: none */
byte lease = 0;              /* nodes that heard a pong of it which was sent in the window */
byte unbound = 0;            /* those of them that forgot it (FREESTART) */
byte read_at = 0;            /* the content that its read shows: up to this record; 0: it does not read */
byte read_epoch = 0;         /* of its reign when it began */
byte read_must = 0;          /* what had been acknowledged by then */
byte held = 0, held_at = 0;  /* a node that may answer reads in the window, plus 1; if its tree ends here */
byte holds = 0;

inline acknowledge(c) {
  printf("  acknowledged: record %d (%d.%d), behind %d\n", c, epoch_of[c], seq_of[c], before[c]);
  assert(CONTAINS(c, acknowledged) || CONTAINS(acknowledged, c));
  if :: CONTAINS(c, acknowledged) -> acknowledged = c :: else fi;
  /* position_stat: what a node may answer from now on has it */
  assert(held == 0 || log[held - 1] != held_at || CONTAINS(held_at, acknowledged))
}

/* ---- The rules, and their weakened forms ---- */

#ifdef HALFTAKE
#define MAY_TAKE_OVER(here, all) ((here) != 0 && 2 * COUNT(here) >= COUNT(all))
#else
#define MAY_TAKE_OVER(here, all) (2 * COUNT(here) > COUNT(all))
#endif
#ifdef ANYSHRINK
#define MAY_SHRINK(staying, all) ((staying) != 0)
#else
#define MAY_SHRINK(staying, all) ((staying) != 0 && 2 * COUNT(staying) >= COUNT(all))
#endif
#ifdef ANYLEASE
#define LEASE_FROM(set) (COUNT((set) & lease) > 0)
#else
#define LEASE_FROM(set) (COUNT((set) & lease) > 0 && 2 * COUNT((set) & lease) >= COUNT(set))
#endif
/* master_has_lease. For what is checked the first half would do (2 nodes, a learner, 2 epochs, 3 records, a window:
 * 4,408,465 states, no failure), because a read that begins while a change of the roster is under way waits until it is
 * committed. */
#define HAS_LEASE (LEASE_FROM(roster) && (next_at == 0 || LEASE_FROM(next_roster)))
#ifdef NOSETTLE
#define SETTLED true
#else
#define SETTLED (committed >= seq_of[read_at]) /* answer_settle */
#endif
#ifdef BLINDLEASE
#define BOUND(i) false
#else
#define BOUND(i) (HAS(lease & ~unbound, i) && reader != m) /* node_bound_ms */
#endif
#ifdef NOFENCE
#define FOLLOWS(i) true
#else
#define FOLLOWS(i) (promised[i] == epoch && promised_to[i] == m) /* node_check_epoch */
#endif
#ifdef SAMEEPOCH
#define PROMISES(i) (promised[i] <= epoch && !BOUND(i))
#else
#define PROMISES(i) ((promised[i] == epoch && promised_to[i] == m) || (promised[i] < epoch && !BOUND(i)))
#endif

/* hold_may, and what waits until it is over: roster_watch, takeover_is_due */
#ifdef HOLDANY
#define HOLD_MAY(i) (next_at == 0 && committed >= seq_of[tree] && HAS_LEASE)
#elif defined(HOLDOPEN)
#define HOLD_MAY(i) (next_at == 0 && HAS(roster, i) && HAS_LEASE)
#elif defined(HOLDFREE)
#define HOLD_MAY(i) (next_at == 0 && HAS(roster, i) && committed >= seq_of[tree])
#elif defined(HOLDCHANGE)
#define HOLD_MAY(i) (HAS(roster, i) && HAS_LEASE)
#else
#define HOLD_MAY(i) (next_at == 0 && HAS(roster, i) && committed >= seq_of[tree] && HAS_LEASE)
#endif
#ifdef HOLDSHRINK
#define MAY_LEAVE true
#else
#define MAY_LEAVE (held == 0 || reader != m)
#endif
#ifdef HOLDRETAKE
#define MAY_RETAKE true
#else
#define MAY_RETAKE (held == 0 || reader != m)
#endif

#ifdef LAZYPROMISE
byte promised_before[N], promised_before_to[N]; /* what is on disk */
#define NOT_DURABLE(i) promised_before[i] = promised[i]; promised_before_to[i] = promised_to[i]
#else
#define NOT_DURABLE(i) skip
#endif
#ifdef ANYINSTALL
#define LATE_REFUSED(i) false
#else
#define LATE_REFUSED(i) (late != NOTHING && late_node == i) /* node_check_stream */
#endif

/* ---- Section 8, Tree ---- */

/* A record behind `behind`; one with `nodes` carries a roster. */
inline new_record(behind, nodes) {
  records++;
  before[records] = behind;
  epoch_of[records] = epoch;
  seq_of[records] = seq_of[behind] + 1;
  history[records] = history[behind] | BIT(records);
  if
  :: nodes != 0 -> roster_of[records] = nodes; roster_at[records] = records
  :: else -> roster_of[records] = roster_of[behind]; roster_at[records] = roster_at[behind]
  fi
}

/* found = the record of the master's tree with this seq */
inline record_find(seq, found) {
  found = 1;
  do
  :: found <= records && !(CONTAINS(tree, found) && seq_of[found] == seq) -> found++
  :: else -> break
  od
}

/* Whether the master's tree has the record `at` in it: by numbers, as the code does it. That they are enough is
 * asserted. */
inline tree_continues(at, yes) {
  yes = 1;
  do
  :: yes <= records && !(CONTAINS(tree, yes) && seq_of[yes] == seq_of[at] && epoch_of[yes] == epoch_of[at]) -> yes++
  :: else -> break
  od;
  if
  :: yes > records -> yes = 0
  :: else -> assert(yes == at); yes = 1
  fi
#ifdef KEEPTAIL
  yes = 1
#endif
}

/* ---- Section 12, Node ---- */

/* From here on RECORDS and INSTALL are taken from this master, on this connection. */
inline node_promise(i) {
  printf("node %d: promises epoch %d to master %d; it holds record %d\n", i, epoch, m, log[i]);
  NOT_DURABLE(i);
  promised[i] = epoch; promised_to[i] = m;
  if :: LATE_REFUSED(i) -> late = NOTHING; late_node = 0; late_from = 0; late_at = 0 :: else fi
}

/* Appends, applies and syncs the next record. The first assertion is tree_apply's check, by which a node would lose its
 * tree; the second is what matters. */
inline node_records(i, x) {
#ifndef KEEPTAIL
  assert(epoch_of[x] == epoch_of[log[i]] || epoch_of[before[x]] == epoch_of[log[i]]);
#endif
  printf("node %d: takes record %d behind %d\n", i, x, log[i]);
  assert(before[x] == log[i]);
  log[i] = x
}

/* INSTALL of a last part; `at` is the snapshot that it is a part of. Not taken if the node lost the first part. */
inline node_install(i, at, taken) {
  taken = (loading[i] != 0);
  printf("node %d: last part of snapshot %d; it held record %d, and first part of %d\n", i, at, log[i], loading[i]);
  if
  :: taken != 0 ->
     assert(loading[i] == at);      /* never parts of two snapshots, */
     assert(NEWER(at, log[i]));     /* nor back to what it had before it acknowledged more */
     log[i] = at;
     loading[i] = 0
  :: else
  fi
}

/* ---- Section 13, Master ---- */

/* seq up to which every node of a set has acknowledged */
#define ACKED(i) (HAS(streaming, i) -> seq_of[acked[i]] : 0)
inline roster_acked(set, seq) {
#ifdef ONEWRITE
  seq = 0; k = 0;
  do :: k < N -> if :: HAS(set, k) && ACKED(k) > seq -> seq = ACKED(k) :: else fi; k++ :: else -> break od;
#else
  seq = 255; k = 0;
  do :: k < N -> if :: HAS(set, k) && ACKED(k) < seq -> seq = ACKED(k) :: else fi; k++ :: else -> break od;
#endif
  k = 0
}

/* The write rule, and when a change of the roster holds. What is committed may be acknowledged to clients. */
inline commit_update() {
  roster_acked(roster, x);
  if
  :: next_at != 0 ->
     roster_acked(next_roster, y);
     if :: COUNT(next_roster) > COUNT(roster) && x < y -> y = x :: else fi;
     if
     :: y >= seq_of[next_at] -> roster = next_roster; next_roster = 0; next_at = 0; x = y
     :: else -> if :: x >= seq_of[next_at] -> x = seq_of[next_at] - 1 :: else fi
     fi
  :: else
  fi;
  if
  :: x > committed && x >= first ->
     committed = x;
     state = REIGNING;
     record_find(committed, y);
     acknowledge(y)
  :: else
  fi;
  x = 0; y = 0
}

inline roster_propose(nodes) {
  new_record(tree, nodes);
  tree = records; next_roster = nodes; next_at = tree;
  printf("master %d: record %d with roster %d\n", m, tree, next_roster);
  commit_update()
}

/* stream_once: a node that holds a beginning of the tree gets the rest as records, if the master has them all (it has
 * those of its reign); any other gets a snapshot, in a step of its own. */
inline stream_begin(i) {
  tree_continues(acked[i], x);
  if
  :: x != 0 && seq_of[acked[i]] + 1 >= first -> x = 0; streaming = streaming | BIT(i); commit_update()
  :: else -> x = 0
  fi
}

inline stream_end(i) {
  printf("master %d: the connection to node %d ends\n", m, i);
  told = told & ~BIT(i);
  installing = installing & ~BIT(i);
  streaming = streaming & ~BIT(i);
  flight = flight & ~BIT(i);
  acked[i] = 0
}

inline reign_end() {
  printf("master %d: epoch %d ends\n", m, epoch);
  state = WAITING;
  tree = 0; first = 0; committed = 0; roster = 0; next_roster = 0; next_at = 0;
  told = 0; installing = 0; streaming = 0; flight = 0;
  do :: k < N -> acked[k] = 0; k++ :: else -> break od;
  k = 0
}

/* From the promises to the record that begins the reign. Nothing it uses can change meanwhile: who promised takes no
 * record from anybody else, and who promised to somebody else since is found out when the record is sent. */
inline takeover() {
  do /* newest_roster: x = the record that made it */
  :: k < N -> if :: HAS(told, k) && NEWER(roster_at[acked[k]], x) -> x = roster_at[acked[k]] :: else fi; k++
  :: else -> break
  od;
  y = roster_of[x] & told; /* roster_present */
  if
  :: MAY_TAKE_OVER(y, roster_of[x]) ->
     x = 0; k = 0;
     do /* takeover_best: x = its last record */
     :: k < N -> if :: HAS(y, k) && NEWER(acked[k], x) -> x = acked[k] :: else fi; k++
     :: else -> break
     od;
     k = 0;
     new_record(x, y); /* takeover_load, takeover_establish */
     tree = records; first = seq_of[tree]; roster = y; state = ESTABLISHING;
     printf("master %d: takes over by epoch %d from record %d: record %d with roster %d\n", m, epoch, x, tree, y);
     x = 0; y = 0;
     do :: n < N -> if :: HAS(told, n) -> stream_begin(n) :: else fi; n++ :: else -> break od;
     n = 0
  :: else -> x = 0; y = 0; k = 0; reign_end()
  fi
}

#ifdef EARLYLEARNER
#define FIRST_PART_TAKEN(i) streaming = streaming | BIT(i); commit_update()
#else
#define FIRST_PART_TAKEN(i) skip
#endif

/* What a master and node i do together. */
#define PEER(i)                                                                                                        \
  /* stream_promise, node_promise: the answer comes; or it is lost */                                                  \
  :: d_step { state != WAITING && !HAS(told, i) && PROMISES(i) ->                                                      \
       node_promise(i);                                                                                                \
       told = told | BIT(i); acked[i] = log[i];                                                                        \
       if :: first != 0 -> stream_begin(i) :: else fi }                                                                \
  :: d_step { state != WAITING && !HAS(told, i) && PROMISES(i) && promised[i] < epoch ->                               \
       node_promise(i) }                                                                                               \
  /* stream_snapshot, node_install: the first part; the last part */                                                   \
  :: d_step { first != 0 && HAS(told & ~streaming & ~installing, i) && FOLLOWS(i) ->                                   \
       loading[i] = tree; acked[i] = tree; installing = installing | BIT(i);                                           \
       printf("node %d: first part of snapshot %d\n", i, tree);                                                        \
       FIRST_PART_TAKEN(i) }                                                                                           \
  :: d_step { HAS(installing & ~flight, i) && FOLLOWS(i) ->                                                            \
       node_install(i, acked[i], x);                                                                                   \
       if :: x != 0 -> flight = flight | BIT(i) :: else -> stream_end(i) fi;                                           \
       x = 0 }                                                                                                         \
  /* stream_records, node_records */                                                                                   \
  :: d_step { HAS(streaming & ~installing & ~flight, i) && seq_of[acked[i]] < seq_of[tree] && FOLLOWS(i) ->            \
       record_find(seq_of[acked[i]] + 1, x);                                                                           \
       if                                                                                                              \
       :: seq_of[x] == seq_of[log[i]] + 1 -> node_records(i, x); flight = flight | BIT(i)                              \
       :: else -> stream_end(i) /* "the next record is N" */                                                           \
       fi;                                                                                                             \
       x = 0 }                                                                                                         \
  /* the answer to INSTALL or RECORDS comes */                                                                         \
  :: d_step { HAS(flight, i) ->                                                                                        \
       flight = flight & ~BIT(i);                                                                                      \
       printf("master %d: hears that node %d did\n", m, i);                                                            \
       if                                                                                                              \
       :: HAS(installing, i) -> installing = installing & ~BIT(i); streaming = streaming | BIT(i)                      \
       :: else -> record_find(seq_of[acked[i]] + 1, x); acked[i] = x; x = 0                                            \
       fi;                                                                                                             \
       commit_update() }                                                                                               \
  /* the connection breaks; a part of a snapshot that was sent on it may arrive yet */                                 \
  :: d_step { breaks < BREAKS && first != 0 && HAS(told, i) -> breaks++; stream_end(i) }                               \
  :: d_step { breaks < BREAKS && late == NOTHING && first != 0 && HAS(told & ~streaming & ~installing, i) ->           \
       breaks++; late = FIRST; late_node = i; late_from = m; late_at = tree; stream_end(i) }                           \
  :: d_step { breaks < BREAKS && late == NOTHING && first != 0 && HAS(told & ~streaming & ~installing, i) ->           \
       breaks++; late = WHOLE; late_node = i; late_from = m; late_at = tree; stream_end(i) }                           \
  :: d_step { breaks < BREAKS && late == NOTHING && HAS(installing & ~flight, i) ->                                    \
       breaks++; late = LAST; late_node = i; late_from = m; late_at = acked[i]; stream_end(i) }                        \
  /* roster_watch: a node that has every record may grow in */                                                         \
  :: d_step { state == REIGNING && next_at == 0 && !HAS(roster, i) && HAS(streaming & ~installing, i) &&               \
              seq_of[acked[i]] == seq_of[tree] && records < RECORDS ->                                                 \
       roster_propose(roster | BIT(i)) }                                                                               \
  /* master_position: the node may answer reads until the window closes, if its tree ends, or will end, here */         \
  :: d_step { reader == m && holds < HOLDS && held == 0 && state == REIGNING && HOLD_MAY(i) ->                         \
       holds++; held = i + 1; held_at = tree;                                                                          \
       printf("master %d: node %d may answer reads up to record %d\n", m, i, tree);                                    \
       acknowledge(tree) }                                                                                             \
  /* a pong that was sent in the window comes, and later the ping that repeats its stamp; or RECORDS and the answer */ \
  :: d_step { reader == m && state != WAITING && FOLLOWS(i) && !HAS(lease, i) ->                                  \
       lease = lease | BIT(i); printf("master %d: has its lease from node %d\n", m, i) }

/* A master goes on with these nodes of its roster. */
#define SHRINK(nodes)                                                                                                  \
  :: d_step { state == REIGNING && next_at == 0 && (nodes & ~roster) == 0 && nodes != roster && records < RECORDS &&   \
              MAY_SHRINK(nodes, roster) && MAY_LEAVE ->                                                                             \
       roster_propose(nodes) }

/* A node dies and starts again; the parts of a snapshot that it was loading do not count. */
#ifdef LAZYPROMISE
#define FORGET(i) promised[i] = promised_before[i]; promised_to[i] = promised_before_to[i]
#elif defined(LAZYSYNC)
#define FORGET(i) if :: log[i] > 1 -> log[i] = before[log[i]] :: else fi
#elif defined(FREESTART)
#define FORGET(i) unbound = unbound | BIT(i)
#else
#define FORGET(i) skip
#endif
#define CRASH(i)                                                                                                       \
  :: d_step { crashes < CRASHES -> crashes++; loading[i] = 0; FORGET(i); printf("node %d: dies and starts again\n", i) }

#define SEEN(e) (promised[0] >= e || promised[N / 2] >= e || promised[(N - 1) / 2] >= e || promised[N - 1] >= e)
#define CLOSE reader = MASTERS; lease = 0; unbound = 0; read_at = 0; read_epoch = 0; read_must = 0; held = 0; held_at = 0

proctype Master(byte m) {
  mtype state = WAITING;
  byte epoch = 1;                           /* of the reign, or the one asked for */
  byte tree = 0, first = 0, committed = 0;  /* its last record; seq of the record that began the reign; seq */
  byte roster = 0, next_roster = 0, next_at = 0;
  byte told = 0, installing = 0, streaming = 0, flight = 0;
  byte acked[N];
  byte x = 0, y = 0, k = 0, n = 0;          /* 0 between steps */

  d_step {
    if
    :: m == 0 -> /* it reigns already */
       state = REIGNING; tree = 1; first = 1; committed = 1; roster = roster_of[1]; told = roster; streaming = roster;
       do :: k < MEMBERS -> acked[k] = 1; k++ :: else -> break od;
       k = 0
    :: else
    fi
  }
  do
  /* takeover_promises: an epoch higher than its own and than any it heard of; it may have heard of all or of none */
  :: d_step { state == WAITING && epoch < EPOCHS -> epoch++; state = PROMISING }
  :: d_step { state == WAITING && epoch + 1 < EPOCHS && SEEN(epoch + 1) -> epoch = epoch + 2; state = PROMISING }
  :: d_step { state == WAITING && epoch + 2 < EPOCHS && SEEN(epoch + 2) -> epoch = epoch + 3; state = PROMISING }
  :: d_step { state == PROMISING && told != 0 && records < RECORDS && MAY_RETAKE -> takeover() }
  :: d_step { state != WAITING -> reign_end() }

  /* master_propose */
  :: d_step { state == REIGNING && writes < WRITES && records < RECORDS ->
       writes++; new_record(tree, 0); tree = records; printf("master %d: a write is record %d\n", m, tree) }

  /* roster_watch: which nodes it thinks lost is open */
  SHRINK(1)
  SHRINK(2)
#if N > 2
  SHRINK(3)
  SHRINK(4)
  SHRINK(5)
  SHRINK(6)
#endif
#if N > 3
  SHRINK(7)
  SHRINK(8)
  SHRINK(9)
  SHRINK(10)
  SHRINK(11)
  SHRINK(12)
  SHRINK(13)
  SHRINK(14)
#endif

  PEER(0)
#if N > 1
  PEER(1)
#endif
#if N > 2
  PEER(2)
#endif
#if N > 3
  PEER(3)
#endif

  /* A window opens; a read begins, and its content is read; its answer goes out; the window closes. */
  :: d_step { reader == MASTERS && reads < READS && state != WAITING -> reader = m; reads++ }
  :: d_step { reader == m && read_at == 0 && state == REIGNING ->
       read_at = tree; read_epoch = epoch; read_must = acknowledged;
       printf("master %d: reads up to record %d; record %d is acknowledged\n", m, read_at, read_must) }
  :: d_step { reader == m && read_at != 0 && state == REIGNING && read_epoch == epoch && SETTLED && HAS_LEASE ->
       printf("master %d: answers, current, up to record %d\n", m, read_at);
       assert(CONTAINS(read_at, read_must)); acknowledge(read_at); CLOSE }
  :: d_step { reader == m -> CLOSE }
  od
}

proctype World() {
  byte x = 0;
  do
  /* An INSTALL arrives on a connection that the master has given up. */
  :: d_step { late != NOTHING && promised[late_node] == epoch_of[late_at] && promised_to[late_node] == late_from ->
       printf("node %d: an INSTALL of snapshot %d arrives late\n", late_node, late_at);
       if
       :: late == LAST -> node_install(late_node, late_at, x)
       :: late == WHOLE -> loading[late_node] = late_at; node_install(late_node, late_at, x)
       :: late == FIRST -> loading[late_node] = late_at
       fi;
       late = NOTHING; late_node = 0; late_from = 0; late_at = 0; x = 0 }
  CRASH(0)
#if N > 1
  CRASH(1)
#endif
#if N > 2
  CRASH(2)
#endif
#if N > 3
  CRASH(3)
#endif
  od
}

init {
  byte i = 0;
  d_step {
    epoch_of[1] = 1; seq_of[1] = 1; roster_of[1] = (1 << MEMBERS) - 1; roster_at[1] = 1; history[1] = BIT(1);
    do :: i < MEMBERS -> log[i] = 1; promised[i] = 1; i++ :: else -> break od;
    i = 0
  }
  atomic {
    do :: i < MASTERS -> run Master(i); i++ :: else -> break od;
    i = 0;
    run World()
  }
}
