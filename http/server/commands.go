package server

import (
	"context"
	"time"

	"github.com/dash-fleet/dash/http/events"
	"github.com/dash-fleet/dash/messages"
)

// Commands is everything the API asks of the rest of Dash. All of it is
// required. Every method is safe for concurrent use, honours ctx (which always
// has a deadline) and refuses with a *messages.Error, whose Code decides the
// HTTP status; any other error answers 500 and is logged, never shown.
//
// In every method an empty tenant means any tenant. A thing that exists in
// another tenant than the one given is refused as CodeNotFound.
type Commands struct {
	Tasks    Tasks
	Gateways Gateways
	Sessions Sessions
	Pools    Pools
	Accounts Accounts
	Audit    Audit
	Nodes    Nodes
	Health   Health
	Events   events.Log
	Runs     events.Runs
}

// SubmitRequest is a checked wish for a new task.
type SubmitRequest struct {
	Tenant  string // never empty
	Pool    string // empty: the session's pool, else the tenant's own
	Class   messages.Class
	Session string // empty: a throw-away session
	// Spec has every default filled in except Backoff, which stays nil unless given.
	Spec     *messages.TaskSpec
	DueAt    time.Time // zero: now
	NotAfter time.Time // zero: never expires
	// IdemKey is the client's Idempotency-Key, empty for none; IdemHash the
	// SHA-256 of the canonical request.
	IdemKey  string
	IdemHash []byte
}

// Submitted is the answer to a submit.
type Submitted struct {
	Task Task
	// Replayed says that the idempotency key named this task already.
	Replayed bool
}

// Task is a task with what only its pool's owner knows.
type Task struct {
	messages.Task
	// BlockedBy is the earlier task of the session that must end first, empty for none.
	BlockedBy string
	// WaitingCode says why a waiting task does not run yet, what keeps a running
	// one, or that it is held, and WaitingReason the same in words. Both are empty
	// where nothing keeps it but its turn, and where its pool's owner does not answer in time.
	WaitingCode   messages.WaitingCode
	WaitingReason string
}

// TaskFilter selects tasks; zero fields select everything.
type TaskFilter struct {
	Tenant     string
	States     []messages.TaskState
	Class      messages.Class
	Pool       string
	Session    string
	Gateway    string
	Code       string // error code
	LabelKey   string
	LabelValue string // empty: any value
	Before     time.Time
	After      time.Time
	IDBegin    string // the id begins with
	IDEnd      string // the id ends with
	Bodies     bool   // with long texts; else those may be left out, see messages.Brief
}

// TaskList is a page of tasks.
type TaskList struct {
	Tasks []Task
	Next  string // cursor of the next page, empty at the end
	// SearchedTo is set on a page that ended early: every task created after
	// it was looked at.
	SearchedTo time.Time
}

// Tasks are the commands about tasks.
type Tasks interface {
	// Submit returns when the task is durable and in the order. The same
	// (tenant, IdemKey) returns the task it named before; another IdemHash is
	// CodeKeyReused; both come before what the queue and the session say.
	// A pool that is not the tenant's is CodeInvalid, as one that is not there.
	// A full queue is CodeQueueFull with Position, Limit and RetryAfter. A session of another pool is CodeWrongPool. Calls of one
	// key may run at once: exactly one task comes of them.
	Submit(ctx context.Context, r SubmitRequest) (Submitted, error)
	// Task returns one task, without bodies perhaps not its long texts. CodeNotFound.
	Task(ctx context.Context, tenant, id string, bodies bool) (Task, error)
	// Tasks pages through the matching tasks, newest first. A page is bounded in
	// bytes, too. A search by begin
	// or end of ids may end a page early, but not one among open states only.
	// An unusable cursor is CodeInvalid.
	Tasks(ctx context.Context, f TaskFilter, cursor string, limit int) (TaskList, error)
	// WaitTask returns the task as soon as it is terminal, perhaps without its long texts. When ctx ends first
	// it returns ctx.Err(). It costs no thread or polling while it waits.
	WaitTask(ctx context.Context, tenant, id string) (Task, error)
	// Cancel makes the cancel flag durable and returns the task as it is then.
	// It is repeatable. A terminal task that was not cancelled is CodeWrongState.
	Cancel(ctx context.Context, tenant, id, reason string) (Task, error)
	// Replay puts a dead letter back. once names the request, empty for none: a task
	// that it has put back before stays as it is, and done is false.
	// CodeWrongState, CodeQueueFull.
	Replay(ctx context.Context, tenant, id, once string) (t Task, done bool, err error)
	// Release decides about a held task: back to the queue, or with fail a
	// dead letter. CodeWrongState.
	Release(ctx context.Context, tenant, id string, fail bool) (Task, error)
	// ReplayDeadLetters puts all matching dead letters back; f.States is
	// ignored. matched is the true count, replayed how many were queued; with
	// dryRun none. It stops without error when the queue is full. What the request
	// once, empty for none, has put back before does not match.
	ReplayDeadLetters(ctx context.Context, f TaskFilter, once string, dryRun bool) (matched, replayed int, err error)
	// Queue lists every class of every pool, pools by id, classes in order of
	// service, beginning with the pool from. A tenant's own pool that nobody has used
	// is there when it is named.
	Queue(ctx context.Context, tenant, pool, from string) ([]QueueClass, error)
}

// QueueClass is what waits and runs in one class of one pool.
type QueueClass struct {
	Pool      string
	Tenant    string
	Class     messages.Class
	Depth     int   // tasks that wait for a gateway
	Bytes     int64 // of their inputs
	Running   int   // tasks that a gateway holds
	OldestAge time.Duration
	Limit     messages.ClassLimit
	// Warning says why no task of the class can ever start with the gateways
	// there are; empty: one can.
	Warning string
}

// Gateway is a gateway's configuration and its owner's last word about it. A
// gateway that no owner has taken up yet has State GatewayRegistered.
type Gateway struct {
	Config messages.Gateway
	Status messages.GatewayStatus
	// ConfigState is how a managed one's process came to its configuration;
	// empty: not known.
	ConfigState string
}

// GatewayChange lists the fields that change; nil leaves one as it is.
type GatewayChange struct {
	URL            *string
	Token          *messages.Secret
	MaxConcurrency *int
	Weight         *int
	Region         *string // empty takes it away
	Capabilities   *[]string
	Labels         *map[string]string
	Managed        *ManagedChange
	Home           *HomeChange
}

// HomeChange makes another node the home of a gateway that only its home can
// reach. CodeWrongState while the present home is alive.
type HomeChange struct {
	Node  string // empty: the node that is asked
	Fresh bool   // a managed one starts with an empty state folder where its own is not there
}

// ManagedChange is what may be changed of a managed gateway's process.
type ManagedChange struct {
	Command *[]string
	Config  *map[string]any
	Env     *map[string]string
}

// Gateways are the commands about gateways. A change is durable when its
// method returns and takes effect at the gateway soon after.
type Gateways interface {
	// Create registers a gateway. A taken id is CodeConflict, a pool that is not
	// the tenant's CodeInvalid. Tenant and Pool are never empty; an empty Node means this node. The URL was not checked
	// beyond its form: which networks are allowed is for the implementation,
	// which refuses others as CodeInvalid, also in Update.
	// Only a caller with rights over all tenants, whose tenant is empty, may name
	// this machine or its link.
	Create(ctx context.Context, tenant string, g messages.Gateway) (Gateway, error)
	// List returns the first limit gateways with an id behind after, in the order of
	// their ids, or fewer when these are long; more says that others follow. They come
	// without what is never shown: their configuration, and the values of their environment.
	List(ctx context.Context, f GatewayFilter, after string, limit int) (list []Gateway, more bool, err error)
	// Get returns one gateway. CodeNotFound.
	Get(ctx context.Context, tenant, id string) (Gateway, error)
	// Update changes the configuration; version 0 means any, another than the
	// present one is CodeVersionClash.
	Update(ctx context.Context, tenant, id string, c GatewayChange, version int64) (Gateway, error)
	// Delete removes the gateway; while it holds tasks this is CodeWrongState
	// unless force. left says what is still to be done, and by whom; empty: nothing.
	Delete(ctx context.Context, tenant, id string, force bool) (left string, err error)
	// Drain gives it no more work. Repeatable.
	Drain(ctx context.Context, tenant, id string) (Gateway, error)
	// Resume ends a drain or a quarantine. Repeatable.
	Resume(ctx context.Context, tenant, id string) (Gateway, error)
	// Restart stops and starts a managed gateway after its runs, or connects
	// anew to another. One that is drained or being drained is CodeWrongState.
	Restart(ctx context.Context, tenant, id string) (Gateway, error)
}

// GatewayFilter selects gateways; zero fields select everything.
type GatewayFilter struct {
	Tenant string
	Pool   string
	States []string
}

// SessionFilter selects sessions; zero fields select everything.
type SessionFilter struct {
	Tenant  string
	Pool    string
	IDBegin string // the id begins with
}

// SessionMove is where a session shall go.
type SessionMove struct {
	Gateway string // empty: Dash chooses
	Force   bool   // do not wait for the running turn
}

// Sessions are the commands about agent sessions. Here tenant is empty only in
// Sessions; a session's id is unique inside its tenant.
type Sessions interface {
	// Create opens a session with s.Tenant, ID, Pool and Labels set. CodeConflict.
	Create(ctx context.Context, s messages.Session) (messages.Session, error)
	// Sessions pages by id, then tenant; next is empty at the end. A page is bounded in bytes, too.
	Sessions(ctx context.Context, f SessionFilter, cursor string, limit int) (sessions []messages.Session, next string, err error)
	// Session returns one session. CodeNotFound.
	Session(ctx context.Context, tenant, id string) (messages.Session, error)
	// Close ends a session; with open tasks it is CodeWrongState.
	Close(ctx context.Context, tenant, id string) error
	// Transcript returns the newest limit tasks that succeeded before the task
	// with the id before (empty: all), oldest first, and whether there are older
	// ones. It is bounded in bytes, too. CodeNotFound.
	Transcript(ctx context.Context, tenant, id, before string, limit int) (turns []messages.Task, older bool, err error)
	// Move starts a move. A gateway of another pool or unknown is CodeInvalid.
	Move(ctx context.Context, tenant, id string, m SessionMove) (messages.Session, error)
	// Resume lets a parked session try again. Any other state is CodeWrongState.
	Resume(ctx context.Context, tenant, id string) (messages.Session, error)
}

// Pools are the commands about pools.
type Pools interface {
	// List returns all pools in the order of their ids.
	List(ctx context.Context, tenant string) ([]messages.Pool, error)
	// Get returns one pool. CodeNotFound.
	Get(ctx context.Context, tenant, id string) (messages.Pool, error)
	// Put creates the pool (Version 0; existing: CodeVersionClash) or replaces
	// the one whose Version is p.Version (another: CodeVersionClash, none: CodeNotFound).
	// tenant is the caller's: a pool of another one is not there, but its id is
	// taken (CodeConflict).
	Put(ctx context.Context, tenant string, p messages.Pool) (messages.Pool, error)
	// Delete removes a pool. CodeNotFound; CodeWrongState while gateways, open tasks
	// or sessions refer to it, and for a tenant's own.
	Delete(ctx context.Context, tenant, id string) error
}

// UserChange lists the fields that change; nil leaves one as it is.
type UserChange struct {
	Password *messages.Secret
	Role     *string
	Tenant   *string // empty: all tenants
}

// Accounts are the commands about who may call. A key or user of a tenant that
// does not exist is CodeInvalid.
type Accounts interface {
	// CreateKey makes a key with k's Name, Tenant, Permissions, RateLimit, Parent and
	// ExpiresAt, and returns its text, which is kept nowhere. once names the wish: of
	// all calls with the same one within a day only the first makes a key, and the text
	// is empty for the others; empty: each does. Another wish under the same once is
	// CodeKeyReused.
	CreateKey(ctx context.Context, k messages.Key, once string) (messages.Key, messages.Secret, error)
	// Keys returns the first limit keys with an id behind after, in the order of their ids.
	Keys(ctx context.Context, tenant, after string, limit int) ([]messages.Key, error)
	// Key returns one key. CodeNotFound.
	Key(ctx context.Context, tenant, id string) (messages.Key, error)
	// RevokeKey ends a key: at once here, within a second everywhere.
	// Repeatable. The last active key with the permission admin over all
	// tenants is CodeWrongState.
	RevokeKey(ctx context.Context, tenant, id string, keep bool) (messages.Key, error)

	// CreateUser makes a user with u's Email, Role and Tenant. A taken email
	// is CodeConflict, a password that bcrypt cannot take CodeInvalid.
	CreateUser(ctx context.Context, u messages.User, password messages.Secret) (messages.User, error)
	// Users returns the first limit users with an id behind after, in the order of their
	// ids; with an email that user alone, if it is one of these.
	Users(ctx context.Context, tenant, email, after string, limit int) ([]messages.User, error)
	// User returns one user. CodeNotFound.
	User(ctx context.Context, tenant, id string) (messages.User, error)
	// UpdateUser changes a user; version 0 means any, another than the present
	// one is CodeVersionClash. Another password ends the user's login sessions.
	UpdateUser(ctx context.Context, tenant, id string, c UserChange, version int64) (messages.User, error)
	// DeleteUser removes a user with all login sessions. CodeNotFound.
	DeleteUser(ctx context.Context, tenant, id string) error

	// CreateTenant makes a tenant. CodeConflict.
	CreateTenant(ctx context.Context, t messages.Tenant) (messages.Tenant, error)
	// Tenants returns the first limit tenants with an id behind after, in the order of
	// their ids; with a tenant that one alone, if it is one of these.
	Tenants(ctx context.Context, tenant, after string, limit int) ([]messages.Tenant, error)
}

// AuditRow is one change: who did what to which thing.
type AuditRow struct {
	Seq       int64 // given by the log
	Time      time.Time
	Tenant    string // of the actor; empty: all tenants
	Actor     string
	Action    string // id of the operation
	Target    string
	RequestID string
	Detail    string // JSON object, or empty
	Hash      string // hexadecimal, given by the log
}

// AuditFilter selects rows; zero fields select everything.
type AuditFilter struct {
	Tenant, Actor, Action, Target string
	Since, Until                  time.Time // from Since on, before Until
	Before                        int64     // rows with a smaller Seq
	Limit                         int
}

// AuditState is what a walk over the whole log found.
type AuditState struct {
	Rows     int64  // that fit
	Head     string // hash of the last of them, hexadecimal
	BrokenAt int64  // first row that does not fit; 0: all do
	Why      string
}

// Audit is the log of changes.
type Audit interface {
	// Record adds a row. An error leaves open whether it was added.
	Record(ctx context.Context, r AuditRow) error
	// Rows returns the rows that fit, newest first.
	Rows(ctx context.Context, f AuditFilter) ([]AuditRow, error)
	// Verify walks the whole log.
	Verify(ctx context.Context) (AuditState, error)
}

// Node is a Dash process whose lease is valid.
type Node struct {
	ID      string
	Addr    string
	Region  string
	Version string
	Expires time.Time
	Works   bool // it does the work; the others stand by
}

// Nodes lists the cluster.
type Nodes interface {
	// Nodes returns the nodes whose lease is valid, in the order of their ids.
	Nodes(ctx context.Context) ([]Node, error)
}

// Check is what one readiness check found.
type Check struct {
	Name   string // snake_case, from a closed set
	OK     bool
	Detail string // in words, without secrets
}

// Health answers whether this node can take work.
type Health interface {
	// Checks runs all readiness checks. It is called by anybody, often, and
	// must be cheap: at most a second, and shared between callers at once.
	Checks(ctx context.Context) []Check
}
