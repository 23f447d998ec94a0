package openclawtest

import (
	"bufio"
	"bytes"
	"container/list"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/uuid"
)

// store is the durable state of a gateway: what a real one keeps in SQLite. In
// memory it is plain data; with a state folder each change is also one write to
// a journal, made before the change can be seen. Guarded by g.mu.
type store struct {
	cfg      Config
	sessions map[string]*session
	lru      *list.List       // of *session, most recently used first
	bytes    int              // text in all transcripts
	tasks    []taskRow        // newest last, at most maxTaskRows
	off      map[string]int64 // providers that are switched off, until when in ms
	seed     ed25519.PrivateKey
	paired   map[string]*pairedDevice
	asking   map[string]*pairingRequest // by device id

	file    *os.File
	written int64
	floor   int64 // size after the last compaction
	logger  *slog.Logger
	broken  bool
}

type pairedDevice struct {
	DeviceID string   `json:"deviceId"`
	Role     string   `json:"role"`
	Scopes   []string `json:"scopes"`
	Token    string   `json:"token"`
}

type pairingRequest struct {
	ID     string
	Device string
	Role   string
	Scopes []string
	Reason string
	Client params
	At     int64
}

// record is one line of the journal.
type record struct {
	Op     string        `json:"op"` // meta, entry, reset, remove, pend, unpend, task, seed, paired, off
	Meta   *meta         `json:"meta,omitempty"`
	Entry  *entry        `json:"entry,omitempty"`
	Key    string        `json:"key,omitempty"`
	Task   *taskRow      `json:"task,omitempty"`
	Seed   []byte        `json:"seed,omitempty"`
	Paired *pairedDevice `json:"paired,omitempty"`
	// Pending and RunID belong to an input that is not in the transcript.
	Pending *pendingInput `json:"pending,omitempty"`
	RunID   string        `json:"runId,omitempty"`
	// Off is until when the provider Key is switched off.
	Off int64 `json:"off,omitempty"`
}

const (
	journalName  = "sim-state.jsonl"
	compactBytes = 8 << 20
)

func openStore(cfg Config) (*store, error) {
	st := &store{
		cfg: cfg, sessions: map[string]*session{}, lru: list.New(), off: map[string]int64{},
		paired: map[string]*pairedDevice{}, asking: map[string]*pairingRequest{}, logger: cfg.Logger,
	}
	if cfg.StateDir != "" {
		if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
			return nil, fmt.Errorf("make state folder: %w", err)
		}
		if err := st.load(); err != nil {
			return nil, err
		}
	}
	if st.seed == nil {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("make device key: %w", err)
		}
		st.seed = key
	}
	if cfg.StateDir == "" {
		return st, nil
	}
	return st, st.compact()
}

func (st *store) path() string { return filepath.Join(st.cfg.StateDir, journalName) }

func (st *store) load() error {
	f, err := os.Open(st.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open state: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	br := bufio.NewReaderSize(f, 1<<16)
	for n := 1; ; n++ {
		line, err := br.ReadBytes('\n')
		if err == io.EOF {
			return nil // a torn last line was never acknowledged
		}
		if err != nil {
			return fmt.Errorf("read state: %w", err)
		}
		var rec record
		if err := json.Unmarshal(line, &rec); err != nil {
			return fmt.Errorf("state %s line %d: %w; move the folder away to start afresh", st.path(), n, err)
		}
		st.apply(rec)
	}
}

func (st *store) apply(rec record) {
	switch {
	case rec.Op == "off":
		st.off[rec.Key] = rec.Off
	case rec.Op == "remove":
		if s := st.sessions[rec.Key]; s != nil {
			st.grow(s, -s.bytes)
			st.lru.Remove(s.elem)
			delete(st.sessions, rec.Key)
		}
	case rec.Op == "pend" && rec.Pending != nil:
		if s := st.sessions[rec.Key]; s != nil {
			s.Pending = append(s.Pending, *rec.Pending)
		}
	case rec.Op == "unpend":
		if s := st.sessions[rec.Key]; s != nil {
			s.Pending = slices.DeleteFunc(s.Pending, func(p pendingInput) bool { return p.RunID == rec.RunID })
		}
	case rec.Task != nil:
		st.rememberTask(*rec.Task)
	case rec.Seed != nil && len(rec.Seed) == ed25519.SeedSize:
		st.seed = ed25519.NewKeyFromSeed(rec.Seed)
	case rec.Paired != nil:
		st.paired[rec.Paired.DeviceID] = rec.Paired
	case rec.Meta != nil:
		s := st.sessions[rec.Meta.Key]
		if s == nil {
			s = &session{}
			s.elem = st.lru.PushFront(s)
			st.sessions[rec.Meta.Key] = s
		}
		pending := s.Pending
		s.meta = *rec.Meta
		s.Pending = pending
		if rec.Op == "reset" {
			st.grow(s, -s.bytes)
			s.entries, s.Pending = nil, nil
		}
		if rec.Entry != nil {
			s.entries = append(s.entries, *rec.Entry)
			st.grow(s, len(rec.Entry.Text))
			if over := len(s.entries) - st.cfg.MaxEntries; over > 0 {
				for _, e := range s.entries[:over] {
					st.grow(s, -len(e.Text))
				}
				s.entries = slices.Delete(s.entries, 0, over)
			}
		}
	}
}

// compact rewrites the journal to what is true now.
func (st *store) compact() error {
	var buf bytes.Buffer
	put := func(rec record) { buf.Write(append(encode(rec), '\n')) }
	put(record{Op: "seed", Seed: st.seed.Seed()})
	for _, p := range st.paired {
		put(record{Op: "paired", Paired: p})
	}
	for provider, until := range st.off {
		put(record{Op: "off", Key: provider, Off: until})
	}
	for _, t := range st.tasks {
		put(record{Op: "task", Task: &t})
	}
	for e := st.lru.Back(); e != nil; e = e.Prev() {
		s := e.Value.(*session)
		put(record{Op: "meta", Meta: &s.meta})
		for _, x := range s.entries {
			put(record{Op: "entry", Meta: &s.meta, Entry: &x})
		}
		for _, in := range s.Pending {
			put(record{Op: "pend", Key: s.Key, Pending: &in})
		}
	}
	tmp := st.path() + ".new"
	if err := os.WriteFile(tmp, buf.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := os.Rename(tmp, st.path()); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	f, err := os.OpenFile(st.path(), os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open state: %w", err)
	}
	if st.file != nil {
		_ = st.file.Close() // nothing is buffered; the new file holds everything
	}
	st.file, st.written, st.floor = f, int64(buf.Len()), int64(buf.Len())
	return nil
}

func (st *store) put(rec record) {
	if st.file == nil {
		return
	}
	data := append(encode(rec), '\n')
	_, err := st.file.Write(data)
	st.written += int64(len(data))
	if err == nil && st.written > st.floor*2+compactBytes {
		err = st.compact()
	}
	if err != nil && !st.broken {
		st.broken = true
		st.logger.Error("simulated gateway cannot write its state", "gateway", st.cfg.Name, "err", err)
	}
}

func (st *store) saveMeta(s *session) { st.put(record{Op: "meta", Meta: &s.meta}) }
func (st *store) saveEntry(s *session, e entry) {
	st.put(record{Op: "entry", Meta: &s.meta, Entry: &e})
}
func (st *store) savePending(s *session, in pendingInput) {
	st.put(record{Op: "pend", Key: s.Key, Pending: &in})
}
func (st *store) saveReset(s *session)   { st.put(record{Op: "reset", Meta: &s.meta}) }
func (st *store) saveRemoval(s *session) { st.put(record{Op: "remove", Key: s.Key}) }

// crash forgets what only memory held.
func (st *store) crash() {
	for _, s := range st.sessions {
		s.active, s.queue = nil, nil
	}
	clear(st.asking)
	if st.file != nil {
		_ = st.file.Close() // every line was written when it was made
		st.file = nil
	}
}

// taskRow is one row of the durable ledger of agent runs.
type taskRow struct {
	ID      string `json:"id"`
	RunID   string `json:"runId"`
	Key     string `json:"key"`
	Status  string `json:"status"` // running, completed, failed, cancelled
	Created int64  `json:"created"`
	Started int64  `json:"started,omitempty"`
	Ended   int64  `json:"ended,omitempty"`
	Summary string `json:"summary,omitempty"`
	Error   string `json:"error,omitempty"`
	// Of sub-agents only: the key of their own session, what they were given, and
	// whether Key was told of their end.
	Child    string `json:"child,omitempty"`
	Title    string `json:"title,omitempty"`
	Delivery string `json:"delivery,omitempty"`
}

func taskStatus(k outcomeKind) string {
	switch k {
	case kindOK:
		return "completed"
	case kindAborted:
		return "cancelled"
	default:
		return "failed"
	}
}

func taskOf(r *run) taskRow {
	t := taskRow{ID: deriveID("task:" + r.id), RunID: r.id, Key: r.key, Status: taskStatus(r.out.kind),
		Created: r.accepted, Started: r.started, Ended: r.ended}
	if r.out.fail != nil {
		t.Error = r.out.fail.message
	}
	return t
}

func (t taskRow) wire() map[string]any {
	row := map[string]any{
		"id": t.ID, "taskId": t.ID, "kind": "cli", "runtime": "cli", "status": t.Status,
		"execution": map[string]string{"state": t.Status}, "sessionKey": t.Key, "runId": t.RunID, "createdAt": t.Created,
	}
	row["ownerKey"], row["childSessionKey"], row["deliveryStatus"] = t.Key, t.Key, noDelivery
	if t.Child != "" {
		row["kind"], row["runtime"], row["childSessionKey"], row["deliveryStatus"] = "subagent", "subagent", t.Child, t.Delivery
	}
	for name, at := range map[string]int64{"startedAt": t.Started, "endedAt": t.Ended} {
		if at > 0 {
			row[name] = at
		}
	}
	for name, text := range map[string]string{"terminalSummary": t.Summary, "error": t.Error} {
		if text != "" {
			row[name] = text
		}
	}
	return row
}

func (st *store) putTask(t taskRow) {
	st.rememberTask(t)
	st.put(record{Op: "task", Task: &t})
}

func (st *store) rememberTask(t taskRow) {
	for i := len(st.tasks) - 1; i >= 0; i-- {
		if st.tasks[i].ID == t.ID {
			st.tasks[i] = t
			return
		}
	}
	st.tasks = append(st.tasks, t)
	if len(st.tasks) > maxTaskRows {
		st.tasks = slices.Delete(st.tasks, 0, 1)
	}
}

// requestPairing notes a device's wish; the same device keeps its request id.
func (st *store) requestPairing(device string, p connectParams, reason string) string {
	ask := st.asking[device]
	if ask == nil {
		if len(st.asking) >= 100 {
			clear(st.asking) // strangers must not fill memory; they ask again
		}
		ask = &pairingRequest{ID: uuid.NewString(), Device: device, At: nowMs()}
		st.asking[device] = ask
	}
	ask.Role, ask.Reason, ask.Client = p.role, reason, p.client
	for _, s := range p.scopes {
		if !slices.Contains(ask.Scopes, s) && len(ask.Scopes) < 32 {
			ask.Scopes = append(ask.Scopes, s) // requests accumulate, as on a real gateway
		}
	}
	return ask.ID
}
