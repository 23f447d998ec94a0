package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
	goredis "github.com/redis/go-redis/v9"
)

// EngineName is the engine as archives name it; layout is the version of what
// it keeps under its keys.
const (
	EngineName = "redis"
	layout     = 1
)

// restoring is in front of the identity of a store that is being filled. No
// process opens such a store.
const restoring = "restoring:"

// Source reads the queue's state beside the nodes that work on it. Accounts and
// configuration are elsewhere: see backup.Join.
type Source struct{ db *DB }

var _ persistence.Snapshotter = (*Source)(nil)

// OpenSource connects for reading. It writes nothing.
func OpenSource(ctx context.Context, cfg Config) (*Source, error) {
	db, err := connected(cfg)
	if err != nil {
		return nil, err
	}
	if err := db.reader.Ping(ctx).Err(); err != nil {
		return nil, errors.Join(unavailable(ctx, "connect to redis", err), db.Close())
	}
	return &Source{db}, nil
}

// connected is a store without goroutines and without an identity.
func connected(cfg Config) (*DB, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	db := &DB{cfg: cfg, budget: commitBudget, scripts: newScripts(), poke: make(chan struct{}, 1), w: newWriter(messages.NewID()), recent: newRecent(false)}
	if err := db.connect(); err != nil {
		return nil, fmt.Errorf("open redis store: %w", err)
	}
	return db, nil
}

// Close ends the connections.
func (s *Source) Close() error { return s.db.Close() }

type snapshot struct {
	db     *DB
	source persistence.Source
	no     int64 // newest place in the order of lists at the mark
}

// Snapshot takes the mark. Redis has no view of the past, so rows are read as
// they are when their turn comes: each task with all its parts at one moment,
// no older than the mark. What belongs to tasks (sessions, numbers, owners) is
// read after them and so never behind them.
func (s *Source) Snapshot(ctx context.Context) (persistence.Snapshot, error) {
	var meta *goredis.SliceCmd
	var now *goredis.TimeCmd
	_, err := s.db.reader.TxPipelined(ctx, func(p goredis.Pipeliner) error {
		now = p.Time(ctx) // before the rest: whatever was answered until now is in it
		meta = p.HMGet(ctx, s.db.key("meta"), "dataset", "seq", "no", "shards")
		return nil
	})
	if err != nil {
		return nil, unavailable(ctx, "take the mark", err)
	}
	v := texts(meta.Val())
	if v[0] == "" || strings.HasPrefix(v[0], restoring) || strings.HasPrefix(v[0], "recovering:") {
		return nil, fmt.Errorf("there is no whole store of dash on this server (its identity is %q): look at --redis-url", v[0])
	}
	var nums [3]int64
	for i, text := range v[1:] {
		if nums[i], err = strconv.ParseInt(text, 10, 64); err != nil {
			return nil, fmt.Errorf("read the store's counters: %w", err)
		}
	}
	if nums[2] != messages.Shards {
		return nil, fmt.Errorf("the store has %d shards, this Dash works with %d; use the version that made it", nums[2], messages.Shards)
	}
	src := persistence.Source{Engine: EngineName, Schema: layout, Mark: persistence.Mark{Seq: nums[0], Time: now.Val().UTC()}}
	return &snapshot{s.db, src, nums[1]}, nil
}

func (s *snapshot) Source() persistence.Source { return s.source }

// Close has nothing to release.
func (s *snapshot) Close() error { return nil }

// Rows reads in bounded pieces.
func (s *snapshot) Rows(ctx context.Context, emit func(row any) error) error {
	for _, step := range []func(context.Context, func(any) error) error{s.events, s.tasks, s.sessions, s.statuses, s.numbers, s.owners} {
		if err := step(ctx, emit); err != nil {
			return err
		}
	}
	return nil
}

// tasks walks the order of commits up to the mark. A task that is swept
// meanwhile is left out: it was over its retention.
func (s *snapshot) tasks(ctx context.Context, emit func(any) error) error {
	for last := "-inf"; ; {
		zs, err := s.db.reader.ZRangeByScoreWithScores(ctx, s.db.key("order"), &goredis.ZRangeBy{Min: last, Max: strconv.FormatInt(s.no, 10), Count: walk}).Result()
		if err != nil {
			return unavailable(ctx, "read tasks", err)
		}
		if len(zs) == 0 {
			return nil
		}
		ids := make([]string, len(zs))
		for i, z := range zs {
			ids[i], _ = z.Member.(string)
		}
		last = "(" + strconv.FormatInt(int64(zs[len(zs)-1].Score), 10)
		if err := s.page(ctx, ids, emit); err != nil {
			return err
		}
	}
}

func (s *snapshot) page(ctx context.Context, ids []string, emit func(any) error) error {
	rows, err := s.db.rows(ctx, ids)
	if err != nil {
		return err
	}
	ends := make([]*goredis.FloatCmd, len(rows))
	_, err = s.db.reader.Pipelined(ctx, func(p goredis.Pipeliner) error {
		for i := range rows {
			if n, err := rows[i].names(); err == nil && n.session != "" {
				ends[i] = p.ZScore(ctx, s.db.key("ended:"+n.session), rows[i].id)
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, goredis.Nil) {
		return unavailable(ctx, "read tasks", err)
	}
	for i := range rows {
		t, key, hash, err := rows[i].decode()
		if err != nil {
			return err
		}
		row := &persistence.TaskRow{Task: t, IdemKey: key, IdemHash: hash}
		// A task that ended between the two reads was open in the first.
		if ends[i] != nil && ends[i].Err() == nil && t.State == messages.Succeeded {
			row.Ended = int64(ends[i].Val())
		}
		if err := emit(row); err != nil {
			return err
		}
	}
	return nil
}

func (s *snapshot) events(ctx context.Context, emit func(any) error) error {
	for since := int64(0); since < s.source.Mark.Seq; {
		list, _, err := s.db.Events(ctx, since, walk)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return nil
		}
		for _, e := range list {
			if since = e.GetSeq(); since > s.source.Mark.Seq {
				return nil
			}
			if err := emit(e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *snapshot) sessions(ctx context.Context, emit func(any) error) error {
	for after := ""; ; {
		list, err := s.db.Sessions(ctx, "", "", after, walk)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return nil
		}
		after = persistence.SessionPlace(list[len(list)-1])
		for i := range list {
			if err := emit(&list[i]); err != nil {
				return err
			}
		}
	}
}

func (s *snapshot) statuses(ctx context.Context, emit func(any) error) error {
	list, err := s.db.GatewayStatuses(ctx)
	if err != nil {
		return err
	}
	for i := range list {
		if err := emit(&list[i]); err != nil {
			return err
		}
	}
	return nil
}

// numbers reads one row per pool.
func (s *snapshot) numbers(ctx context.Context, emit func(any) error) error {
	all, err := s.db.readTexts(ctx, "HGETALL", s.db.key("pool"))
	if err != nil {
		return err
	}
	var list []persistence.PoolSeq
	for i := 0; i+1 < len(all); i += 2 {
		n, err := strconv.ParseInt(all[i+1], 10, 64)
		if err != nil {
			return fmt.Errorf("sequence of pool %s: %w", all[i], err)
		}
		list = append(list, persistence.PoolSeq{Pool: all[i], Seq: n})
	}
	slices.SortFunc(list, func(a, b persistence.PoolSeq) int { return strings.Compare(a.Pool, b.Pool) })
	for i := range list {
		if err := emit(&list[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *snapshot) owners(ctx context.Context, emit func(any) error) error {
	for _, scope := range []messages.Scope{messages.ShardScope, messages.GatewayScope} {
		list, err := s.db.Owners(ctx, scope)
		if err != nil {
			return err
		}
		for i := range list {
			if err := emit(&list[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// restoreLease is how long a restore that has died keeps others out.
const restoreLease = time.Minute
