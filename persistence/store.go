package persistence

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// Errors that callers branch on.
var (
	// ErrNotFound: there is no such row.
	ErrNotFound = errors.New("not found")
	// ErrOwned: the shard or gateway has another owner whose lease is valid.
	ErrOwned = errors.New("owned by another node")
	// ErrFenced: the writer no longer owns what it wrote to.
	ErrFenced = errors.New("fenced")
	// ErrVersion: the row was changed since it was read.
	ErrVersion = errors.New("version mismatch")
	// ErrLastAdmin: without this key nobody could do everything for good.
	ErrLastAdmin = errors.New("the last admin key without an end")
	// ErrInUse: another row refers to that one.
	ErrInUse = errors.New("in use")
	// ErrExists: a row with that id exists.
	ErrExists = errors.New("exists")
	// ErrUnavailable: the store cannot take writes now (full disk, I/O error,
	// lost connection). Nothing of the batch was made durable.
	ErrUnavailable = errors.New("store unavailable")
	// ErrUnknown: the connection was lost while a Commit was under way and its
	// outcome could not be read back before ctx ended: the batch may or may not
	// be durable, whole either way. A Commit of the same slice (same backing
	// array, unchanged) goes on with it: it returns the outcomes if the batch was
	// kept, and commits it if not. A Commit of another batch first makes sure
	// that the old one has come to its end; then only the rows tell what became
	// of it. Engines without a connection never return it.
	ErrUnknown = errors.New("outcome unknown")
)

// Leases is the ownership half of a Store. Only the store's clock judges expiry.
type Leases interface {
	// Renew writes the node's row, valid for ttl from the store's present.
	// It returns all nodes whose lease is valid.
	Renew(ctx context.Context, n messages.Node, ttl time.Duration) ([]messages.Node, error)
	// Take makes the node owner with epoch+1 if there is no owner or the
	// owner's lease has expired; taking what one holds already returns the
	// present epoch. Otherwise ErrOwned.
	Take(ctx context.Context, scope messages.Scope, key, node string) (messages.Fence, error)
	// Release empties the owner. A fence that is out of date releases nothing
	// and returns ErrFenced.
	Release(ctx context.Context, f messages.Fence) error
	// Owners lists all rows of a scope.
	Owners(ctx context.Context, scope messages.Scope) ([]messages.Ownership, error)
}

// Op is one item of a batch. All its parts and events become durable
// together, or none does. The parts are applied in the order of the fields, and
// the first that does not fit gives the outcome. At most one of Insert, Update
// and Cancel may be set, and an Insert names an id and a tenant; a batch that
// breaks this is refused as a whole (CheckOps).
type Op struct {
	// Fences must all hold, or the outcome is Fenced.
	Fences []messages.Fence

	Insert  *TaskInsert
	Update  *TaskUpdate
	Cancel  *CancelRequest
	Session *SessionWrite
	Gateway *messages.GatewayStatus // upsert by id

	// Events are appended to the log; the store numbers them in commit order
	// and sets their Seq once they are durable. Seq stays as it was otherwise.
	Events []*messages.Event
}

// TaskInsert creates a task. If (tenant, IdemKey) is taken, the outcome is
// Duplicate and carries the task that took it, also when that task is earlier
// in the same batch. If the task's id is taken, the outcome is Conflict and
// carries the task that has it, so repeating an insert whose answer was lost is
// harmless.
type TaskInsert struct {
	Task     messages.Task
	IdemKey  string // empty: none
	IdemHash []byte // hash of the canonical body
}

// TaskUpdate replaces all fields of a task that may change after submit (not:
// ID, Tenant, Pool, Class, Session, Spec, CreatedAt, idempotency key),
// except the cancel flag (RequestedAt and Reason), provided that the stored
// row is in state From with claim FromClaim; otherwise the outcome is Conflict
// and carries the stored row.
type TaskUpdate struct {
	Task      messages.Task
	From      messages.TaskState
	FromClaim int64
	// UnlessCancelled makes a set cancel flag a Conflict: a claim reads it in
	// the same step.
	UnlessCancelled bool
	// ClearCancel takes the cancel flag off: a replay starts without the flag
	// of the life before.
	ClearCancel bool
}

// CancelRequest sets the cancel flag if the task is in no terminal state. A
// flag that is set already stays as it is and the outcome is OK. In a terminal
// state the outcome is Conflict. Both carry the stored row.
type CancelRequest struct {
	Tenant, Task string
	At           time.Time
	Reason       string
}

// SessionWrite upserts a session's row if the stored generation is
// FromGeneration (or there is no row and FromGeneration is -1). A session in the
// state removed has no row: to write it removes the row, under the same compare.
type SessionWrite struct {
	Session        messages.Session
	FromGeneration int64
	// AnyGeneration skips the comparison.
	AnyGeneration bool
}

// Status is the fate of one Op.
type Status uint8

// Fates of an Op.
const (
	OK Status = iota + 1
	Fenced
	Conflict
	Duplicate
	Missing
)

func (s Status) String() string {
	return [...]string{"unknown", "ok", "fenced", "conflict", "duplicate", "missing"}[s]
}

// Outcome is the answer to one Op, in the order of the batch.
type Outcome struct {
	Status Status
	// Current is the stored row for Conflict, Duplicate and every CancelRequest.
	Current *messages.Task
	// SameBody says for Duplicate whether the bodies were equal.
	SameBody bool
}

// TaskFilter selects tasks; zero fields select everything.
type TaskFilter struct {
	Tenant   string
	States   []messages.TaskState
	Class    messages.Class
	Pool     string
	Session  string
	Gateway  string
	Code     string // error code
	LabelKey string // label=key or label=key:value
	LabelVal string
	Before   time.Time // created before
	After    time.Time // created after
	// IDBegin and IDEnd are what the id begins and ends with. A page of Tasks
	// that has looked for them for Within ends early, unless States names open
	// states only: those are few, so all of them are looked at.
	IDBegin, IDEnd string
	Within         time.Duration // 0: SearchTime
	// Brief leaves long texts out, see messages.Brief: they are neither read nor
	// do they count for the size of a page.
	Brief bool
}

// PageBytes is where a page of tasks ends, in bytes of what is stored of them,
// however many tasks were asked for. A longer task is a page of its own.
const PageBytes = 4 << 20

// SearchTime is how long one page looks for ids by their begin or end.
const SearchTime = 500 * time.Millisecond

// ByID says that ids are looked for.
func (f *TaskFilter) ByID() bool { return f.IDBegin != "" || f.IDEnd != "" }

// OnlyOpen says that no task in a terminal state matches.
func (f *TaskFilter) OnlyOpen() bool {
	return len(f.States) > 0 && !slices.ContainsFunc(f.States, messages.TaskState.Terminal)
}

// MatchesID says that an id begins and ends as wanted.
func (f *TaskFilter) MatchesID(id string) bool {
	return strings.HasPrefix(id, f.IDBegin) && strings.HasSuffix(id, f.IDEnd)
}

// SearchEnd is when a page that begins now ends early.
func (f *TaskFilter) SearchEnd() time.Time { return time.Now().Add(cmp.Or(f.Within, SearchTime)) }

// IDRange is the range from <= id < to of the ids that begin as wanted: no id
// holds a character behind the one that to ends with.
func (f *TaskFilter) IDRange() (from, to string) { return f.IDBegin, f.IDBegin + "\x7f" }

// Store is whatever an owner writes under a fence. Its methods are safe for
// concurrent use. Every method honours ctx.
type Store interface {
	Leases

	// Commit makes a batch durable in one round trip: when it returns nil,
	// every OK op survives the loss of the process and of power. Ops whose
	// fence or compare fails are skipped and answered one by one; their
	// neighbours commit. An error means that nothing of the batch was kept,
	// except ErrUnknown. CodeInvalid says that no later try of the same batch can
	// succeed, whatever the state of the store.
	Commit(ctx context.Context, batch []Op) ([]Outcome, error)

	// Task returns one task; an empty tenant means any. ErrNotFound.
	Task(ctx context.Context, tenant, id string) (messages.Task, error)
	// TaskBrief returns it without long texts, see messages.Brief.
	TaskBrief(ctx context.Context, tenant, id string) (messages.Task, error)
	// Tasks pages through the matching tasks, newest first: in falling order of
	// their commit, so each task that was there at the start comes at most once
	// whatever changes meanwhile. next is empty at the end. A page ends at limit
	// tasks or PageBytes; one that ended early (see TaskFilter) has a next, too,
	// and SearchedTo says how far it looked. A cursor that the store did not give out is a
	// *messages.Error with CodeInvalid.
	Tasks(ctx context.Context, f TaskFilter, cursor string, limit int) (tasks []messages.Task, next string, err error)
	// OpenTasks pages by id through the tasks of a pool that are in no
	// terminal state; after is the last id of the page before. A page ends at limit
	// tasks or PageBytes; more says that others follow, and then it holds one at least.
	OpenTasks(ctx context.Context, pool, after string, limit int) (tasks []messages.Task, more bool, err error)
	// OpenPools lists the pools that have a task in no terminal state.
	OpenPools(ctx context.Context) ([]string, error)
	// MaxSeq is the greatest queue sequence number that a pool ever used.
	MaxSeq(ctx context.Context, pool string) (int64, error)

	// Session returns one agent session. ErrNotFound.
	Session(ctx context.Context, tenant, id string) (messages.Session, error)
	// Sessions pages by id, then tenant, through the sessions of a tenant
	// (empty: all) and pool (empty: all); after is the SessionPlace of the last
	// one of the page before.
	Sessions(ctx context.Context, tenant, pool, after string, limit int) ([]messages.Session, error)
	// Transcript pages backwards through the succeeded tasks of a session in the
	// order in which they ended: the newest limit of them, within PageBytes, that
	// ended before the task with the id before (empty: all), oldest first. older
	// says that some ended before those.
	Transcript(ctx context.Context, tenant, session, before string, limit int) (tasks []messages.Task, older bool, err error)

	// GatewayStatuses lists the last recorded status of every gateway.
	GatewayStatuses(ctx context.Context) ([]messages.GatewayStatus, error)

	// Events returns up to limit entries of the log with Seq > since, in
	// order, and the oldest Seq that the log still holds (0: the log is empty).
	Events(ctx context.Context, since int64, limit int) (events []*messages.Event, oldest int64, err error)
	// LastSeq is the Seq of the newest entry ever written, also when it was
	// swept since; 0 before the first.
	LastSeq(ctx context.Context) (int64, error)
	// WatchEvents calls grown soon after the log has grown, whoever wrote to it,
	// with its newest Seq or more, and first when it begins to watch, one call after
	// the other. It returns when ctx ends, or with an error when it can watch no
	// longer. A call is a reason to look and no more: one may come for nothing, and
	// one may be lost. An engine that a single process writes to never calls.
	WatchEvents(ctx context.Context, grown func(newest int64)) error

	// Sweep removes finished tasks, their idempotency keys and log entries
	// that are older than before, at most limit rows of each, and says how
	// many rows went. Keys are kept until their task is terminal.
	Sweep(ctx context.Context, before time.Time, limit int) (int, error)
	// Ping proves that the store can take a write now.
	Ping(ctx context.Context) error
	// Close releases the store. Nothing may be called afterwards.
	Close() error
}
