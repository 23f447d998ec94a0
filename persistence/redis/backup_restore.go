package redis

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
	goredis "github.com/redis/go-redis/v9"
)

// Target is a server that a restore may fill.
type Target struct{ db *DB }

var _ persistence.Restorer = (*Target)(nil)

// OpenTarget connects and checks, as Open does, that the server keeps what it
// acknowledges. With a History in cfg the restored tasks go to its outbox.
func OpenTarget(ctx context.Context, cfg Config) (*Target, error) {
	db, err := connected(cfg)
	if err != nil {
		return nil, err
	}
	state, err := db.readDurability(ctx)
	if err == nil {
		err = state.check(db.cfg.AcceptLoss)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &Target{db}, nil
}

// Close ends the connections.
func (t *Target) Close() error { return t.db.Close() }

// Restore fills the store under an identity that no process opens, and gives
// it its own at the end. An error removes what was written; what a restore
// leaves that is killed is removed by the next one.
func (t *Target) Restore(ctx context.Context, mark persistence.Mark, rows iter.Seq2[any, error]) (map[persistence.Section]int64, error) {
	db := t.db
	f := &filling{db: db, job: &rebuild{db: db}, token: messages.NewID()}
	got, err := db.writer.SetNX(ctx, db.key("restore"), f.token, restoreLease).Result()
	if err != nil {
		return nil, unavailable(ctx, "begin restore", err)
	}
	if !got {
		return nil, &BusyError{"another restore fills this store, or one was interrupted within the last minute", next.WaitAMinute}
	}
	if err := f.begin(ctx); err != nil {
		return nil, errors.Join(err, f.unlock())
	}
	counts, err := f.fill(ctx, mark, rows)
	if err != nil {
		return nil, errors.Join(err, f.wipe(), f.unlock())
	}
	return counts, f.unlock()
}

// filling is a restore under way.
type filling struct {
	db    *DB
	job   *rebuild
	token string

	ops      []persistence.Op
	ends     []goredis.Z // of tasks in ops, Member is session and id
	events   []*messages.Event
	next     int64 // seq that the store gives to the next event
	maxEnded int64
}

// begin refuses a store in use or with content and gives it its first identity.
func (f *filling) begin(ctx context.Context) error {
	db := f.db
	have, err := db.readTexts(ctx, "HMGET", db.key("meta"), "dataset")
	if err != nil {
		return err
	}
	if strings.HasPrefix(have[0], restoring) {
		if err := f.wipe(); err != nil {
			return err
		}
	}
	if err := f.empty(ctx); err != nil {
		return err
	}
	if err := f.wipe(); err != nil { // an identity without content, and its writers
		return err
	}
	dataset := restoring + f.token
	res, err := db.eval(ctx, db.writer, db.scripts.init, dataset, db.w.id, messages.Shards)
	if err != nil {
		return unavailable(ctx, "begin restore", err)
	}
	if text(res[0]) != dataset {
		return &BusyError{"a process of dash has begun to use this store", next.StopThenRestore}
	}
	f.next = 1
	return db.join(dataset)
}

func (f *filling) empty(ctx context.Context) error {
	if err := f.db.nobodyWorks(ctx); err != nil {
		return err
	}
	counts, err := f.count(ctx)
	if err != nil {
		return err
	}
	if len(counts) > 0 {
		return &persistence.NotEmptyError{Store: "the redis store", Holds: counts}
	}
	return nil
}

// wipe removes all keys of the store but the lock of the restore.
func (f *filling) wipe() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	keep := f.db.key("restore")
	for cursor := uint64(0); ; {
		keys, next, err := f.db.writer.Scan(ctx, cursor, globEscape(f.db.cfg.Prefix)+"*", walk).Result()
		if err != nil {
			return unavailable(ctx, "remove what was restored", err)
		}
		for _, k := range keys {
			if k == keep {
				continue
			}
			if err := f.db.writer.Unlink(ctx, k).Err(); err != nil {
				return unavailable(ctx, "remove what was restored", err)
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// globEscape makes a prefix match only itself.
func globEscape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(s)
}

func (f *filling) unlock() error {
	ctx, cancel := context.WithTimeout(context.Background(), readLimit)
	defer cancel()
	return unavailable(ctx, "end restore", f.db.writer.Del(ctx, f.db.key("restore")).Err())
}

func (f *filling) fill(ctx context.Context, mark persistence.Mark, rows iter.Seq2[any, error]) (map[persistence.Section]int64, error) {
	for row, err := range rows {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = f.put(ctx, row)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := errors.Join(f.flushEvents(ctx), f.flush(ctx)); err != nil {
		return nil, err
	}
	counts, err := f.count(ctx)
	if err != nil {
		return nil, err
	}
	return counts, f.finish(ctx, mark)
}

// finish sets the counters and gives the store its own identity.
func (f *filling) finish(ctx context.Context, mark persistence.Mark) error {
	db := f.db
	now, err := db.readTexts(ctx, "HMGET", db.key("meta"), "ended")
	if err != nil {
		return err
	}
	ended, err := strconv.ParseInt(now[0], 10, 64)
	if err != nil {
		return fmt.Errorf("read the store's counters: %w", err)
	}
	err = db.writer.HSet(ctx, db.key("meta"), "seq", max(mark.Seq, f.next-1), "ended", max(ended, f.maxEnded), "dataset", messages.NewID()).Err()
	return unavailable(ctx, "end restore", err)
}

func (f *filling) put(ctx context.Context, row any) error {
	db := f.db
	switch r := row.(type) {
	case *persistence.TaskRow:
		f.ops = append(f.ops, persistence.Op{Insert: &persistence.TaskInsert{Task: r.Task, IdemKey: r.IdemKey, IdemHash: r.IdemHash}})
		if r.Task.State == messages.Succeeded && r.Task.Session != "" {
			f.ends = append(f.ends, goredis.Z{Score: float64(r.Ended), Member: [2]string{sessionField(r.Task.Tenant, r.Task.Session), r.Task.ID}})
			f.maxEnded = max(f.maxEnded, r.Ended)
		}
	case *messages.Session:
		f.ops = append(f.ops, persistence.Op{Session: &persistence.SessionWrite{Session: *r, AnyGeneration: true}})
	case *messages.GatewayStatus:
		f.ops = append(f.ops, persistence.Op{Gateway: r})
	case *messages.Event:
		return f.event(ctx, r)
	case *persistence.PoolSeq:
		// After the tasks: a commit raises it to the numbers of its tasks.
		if err := f.flush(ctx); err != nil {
			return err
		}
		return unavailable(ctx, "write pool sequence", db.writer.HSet(ctx, db.key("pool"), r.Pool, r.Seq).Err())
	case *messages.Ownership:
		return unavailable(ctx, "write owner", db.writer.HSet(ctx, db.key("owner"), ownerField(r.Scope, r.Key), ownerValue(r.Epoch, r.Owner)).Err())
	default:
		return fmt.Errorf("this engine has no place for rows of type %T", row)
	}
	if len(f.ops) >= restorePage {
		return f.flush(ctx)
	}
	return nil
}

// flush writes the gathered ops through the script of all commits, which keeps
// the indexes, and then the order of ends, which the script gives anew.
func (f *filling) flush(ctx context.Context) error {
	if err := f.db.w.acquire(ctx); err != nil {
		return err
	}
	err := f.job.write(ctx, f.ops)
	f.db.w.release()
	if err != nil {
		return err
	}
	_, err = f.db.writer.Pipelined(ctx, func(p goredis.Pipeliner) error {
		for _, z := range f.ends {
			m, _ := z.Member.([2]string)
			p.ZAddXX(ctx, f.db.key("ended:"+m[0]), goredis.Z{Score: z.Score, Member: m[1]})
		}
		p.Expire(ctx, f.db.key("restore"), restoreLease)
		return nil
	})
	f.ops, f.ends = nil, nil
	return unavailable(ctx, "write the order of ends", err)
}

// event gathers entries whose numbers follow each other.
func (f *filling) event(ctx context.Context, e *messages.Event) error {
	if seq := e.GetSeq(); seq != f.next+int64(len(f.events)) {
		if err := f.flushEvents(ctx); err != nil {
			return err
		}
		if err := f.db.writer.HSet(ctx, f.db.key("meta"), "seq", seq-1).Err(); err != nil {
			return unavailable(ctx, "write events", err)
		}
		f.next = seq
	}
	f.events = append(f.events, e)
	if len(f.events) >= restorePage {
		return f.flushEvents(ctx)
	}
	return nil
}

func (f *filling) flushEvents(ctx context.Context) error {
	if len(f.events) == 0 {
		return nil
	}
	if err := f.db.w.acquire(ctx); err != nil {
		return err
	}
	defer f.db.w.release()
	if err := f.job.write(ctx, []persistence.Op{{Events: f.events}}); err != nil {
		return err
	}
	f.next += int64(len(f.events))
	f.events = nil
	return nil
}

// count counts the rows of every section that has some.
func (f *filling) count(ctx context.Context) (map[persistence.Section]int64, error) {
	db := f.db
	cmds := map[persistence.Section]*goredis.IntCmd{}
	var log *goredis.XMessageSliceCmd
	_, err := db.reader.Pipelined(ctx, func(p goredis.Pipeliner) error {
		cmds[persistence.SectionTasks] = p.ZCard(ctx, db.key("order"))
		cmds[persistence.SectionSessions] = p.HLen(ctx, db.key("agent"))
		cmds[persistence.SectionStatuses] = p.HLen(ctx, db.key("gateway"))
		cmds[persistence.SectionPoolSeqs] = p.HLen(ctx, db.key("pool"))
		cmds[persistence.SectionOwnership] = p.HLen(ctx, db.key("owner"))
		log = p.XRangeN(ctx, db.key("log"), "-", "+", 1)
		return nil
	})
	if err != nil {
		return nil, unavailable(ctx, "count", err)
	}
	counts := map[persistence.Section]int64{}
	for s, c := range cmds {
		if c.Val() > 0 {
			counts[s] = c.Val()
		}
	}
	if len(log.Val()) == 0 {
		return counts, nil
	}
	n, err := f.countEvents(ctx)
	counts[persistence.SectionEvents] = n
	return counts, err
}

// countEvents adds up the pieces of the log.
func (f *filling) countEvents(ctx context.Context) (n int64, err error) {
	for from := "-"; ; {
		list, err := f.db.reader.XRangeN(ctx, f.db.key("log"), from, "+", 16).Result()
		if err != nil {
			return 0, unavailable(ctx, "count events", err)
		}
		if len(list) == 0 {
			return n, nil
		}
		for _, x := range list {
			p, err := decodePiece(x)
			if err != nil {
				return 0, err
			}
			n += p.last - p.first + 1
			from = "(" + x.ID
		}
	}
}
