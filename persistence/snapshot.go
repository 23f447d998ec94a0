package persistence

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dash-fleet/dash/messages"
)

// ErrNotEmpty: a restore needs an empty store; see NotEmptyError.
var ErrNotEmpty = errors.New("store is not empty")

// Section names one kind of row in a snapshot. Names are durable: archives
// hold them.
type Section string

// Sections of a snapshot and the Go type of their rows, in the order in which
// Snapshot.Rows gives them.
const (
	SectionTenants   Section = "tenants"        // *Tenant
	SectionUsers     Section = "users"          // *User
	SectionLogins    Section = "login_sessions" // *LoginSession
	SectionKeys      Section = "api_keys"       // *Key, in the order of their creation
	SectionAudit     Section = "audit"          // *AuditEntry, by Seq
	SectionGateways  Section = "gateways"       // *messages.Gateway
	SectionPools     Section = "pools"          // *messages.Pool
	SectionOwnership Section = "ownership"      // *Ownership
	SectionPoolSeqs  Section = "pool_seqs"      // *PoolSeq
	SectionStatuses  Section = "gateway_status" // *messages.GatewayStatus
	SectionSessions  Section = "agent_sessions" // *messages.Session
	SectionTasks     Section = "tasks"          // *TaskRow, oldest commit first
	SectionEvents    Section = "events"         // *messages.Event, by Seq
)

// TaskRow is a task with what the store keeps beside it.
type TaskRow struct {
	Task     messages.Task
	IdemKey  string // empty: none
	IdemHash []byte
	// Ended orders the ends of the tasks of one store (Transcript). Its values
	// mean nothing else; of tasks that did not succeed it may be 0.
	Ended int64
}

// PoolSeq is the greatest queue sequence number that a pool ever used.
type PoolSeq struct {
	Pool string
	Seq  int64
}

// Mark says up to where a snapshot reaches: whatever was answered as durable
// before Time is in it. Seq is the event log's newest number at that moment.
type Mark struct {
	Seq  int64
	Time time.Time // of the store's clock where it has one
}

// Source says where a snapshot comes from.
type Source struct {
	Engine string // sqlite, postgres or redis
	Schema int64  // version of the engine's schema
	Mark   Mark
}

// Snapshotter is a store that can be copied while others write to it.
type Snapshotter interface {
	// Snapshot takes the mark and pins what was durable then. It neither waits
	// for writers nor holds them up. The caller closes the snapshot.
	Snapshot(ctx context.Context) (Snapshot, error)
	// Close releases the connections.
	Close() error
}

// Snapshot is the content of a store as of its mark. An engine without
// multi-version reads may add rows and changes that are newer than the mark;
// it never leaves out or takes back what is older, and each row stands alone.
type Snapshot interface {
	Source() Source
	// Rows calls emit for every row, one section after the other, each row
	// exactly once. A row is of the type that its section names and belongs to
	// emit until it returns. An error of emit ends the walk and is returned.
	Rows(ctx context.Context, emit func(row any) error) error
	Close() error
}

// Restorer fills an empty store.
type Restorer interface {
	// Restore writes all rows in one durable step, or nothing: an error of the
	// iterator or of the store leaves the store empty. A store that is not
	// empty gives a *NotEmptyError and is not touched. The rows come as
	// Snapshot gave them; the store goes on counting events behind mark.Seq.
	// The result counts the rows of each section as read back from the store.
	Restore(ctx context.Context, mark Mark, rows iter.Seq2[any, error]) (map[Section]int64, error)
	// Close gives the store back.
	Close() error
}

// NotEmptyError says what a store holds that was to be empty.
type NotEmptyError struct {
	Store string // "data folder /var/lib/dash"
	Holds map[Section]int64
}

func (e *NotEmptyError) Error() string {
	var held []string
	for _, s := range slices.Sorted(maps.Keys(e.Holds)) {
		held = append(held, fmt.Sprintf("%s: %d", s, e.Holds[s]))
	}
	return fmt.Sprintf("%s is not empty (%s)", e.Store, strings.Join(held, ", "))
}

// Is makes errors.Is(err, ErrNotEmpty) true.
func (e *NotEmptyError) Is(target error) bool { return target == ErrNotEmpty }
