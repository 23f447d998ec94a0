package postgres

import (
	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

type (
	sessionKey struct{ tenant, id string }
	idemKey    struct{ tenant, key string }
)

// node is a row that the batch touches; op is one that touched it.
type node struct{ op int }

// flag is what is known or expected of a task's cancel flag.
type flag int8

const (
	flagUnknown flag = iota
	flagUnset
	flagSet
)

// taskNode is a task: what it must be like, what the ops make of it, what is sent.
type taskNode struct {
	node
	id     string
	loaded bool // the row is known, or known not to be there

	// Expectations of a row that is not loaded; none of them: there is no row.
	open     bool // in no terminal state; only while compare is not set
	compare  bool // state and claim
	state0   messages.TaskState
	claim0   int64
	cancel0  flag
	tenant0  string
	expected bool // these hold

	// As the ops so far leave it.
	exists bool
	state  messages.TaskState // 0: not known, but open
	claim  int64
	cancel flag
	row    *messages.Task // the whole row, if known

	// To be written.
	insert    *persistence.TaskInsert
	insertOp  int
	task      *messages.Task // the fields that change, nil: none
	ended     int            // place of the op that wrote them
	sent      bool           // the request names it
	setCancel bool
	cancelAt  int64
	reason    string
}

// sessionNode is a session, of which only the generation counts.
type sessionNode struct {
	node
	key      sessionKey
	loaded   bool  // the row is known, or known not to be there
	expected bool  // gen0 is to be checked
	gen0     int64 // -1: no row

	// As the ops so far leave it.
	known      bool // exists and generation are told
	exists     bool
	generation int64

	write *messages.Session // nil: nothing to be written
}

// statusNode is the status of a gateway, which is written unseen.
type statusNode struct {
	node
	write *messages.GatewayStatus
}

// keyNode is an idempotency key.
type keyNode struct {
	node
	holder *taskNode // the task that has it, nil: free
	hash   []byte    // of the holder's request
	sent   bool      // the request names it
}

// look is an insert that is not made but whose id (if not empty) and key must be free.
type look struct {
	op     int
	id     string
	tenant string
	key    string
}

// knownRows are rows that the server returned.
type knownRows struct {
	tasks    map[string]*taskRow
	keys     map[idemKey]*taskRow
	sessions map[sessionKey]int64
	// ops says of which ops: a row of theirs that is not here does not exist.
	ops []bool
}

func newKnownRows(ops []bool) *knownRows {
	return &knownRows{tasks: map[string]*taskRow{}, keys: map[idemKey]*taskRow{}, sessions: map[sessionKey]int64{}, ops: ops}
}

// taskRow is a task as it is stored, with its idempotency key (nil: none).
type taskRow struct {
	task messages.Task
	key  []byte
	hash []byte
}
