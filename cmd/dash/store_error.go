package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"

	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
	"github.com/dash-fleet/dash/persistence/postgres"
	"github.com/dash-fleet/dash/persistence/redis"
	"github.com/dash-fleet/dash/persistence/sqlite"
)

// storeError puts a store that is in use, full, refused or away into a user's
// words.
func storeError(err error) error {
	var locked *sqlite.LockedError
	var full *persistence.NotEmptyError
	var nodes *postgres.NodesRunError
	var refused *redis.DurabilityError
	var loses *postgres.DurabilityError
	var pooled *postgres.PoolingError
	var pair *redis.PairError
	var busy *redis.BusyError
	var disk *sqlite.FullError
	var op *net.OpError
	var name *net.DNSError
	advice, fatal := postgres.Advice(err)
	switch {
	case errors.As(err, &locked):
		return storeInUse(locked)
	case errors.As(err, &disk):
		return &failure{code: exitUnavailable, what: disk.Error(), next: next.FreeDiskRepeat, err: err}
	case errors.As(err, &full):
		return &failure{code: exitConflict, what: full.Error(), next: next.GiveEmptyStore, err: err}
	case errors.As(err, &nodes):
		return &failure{code: exitConflict, what: nodes.Error(), next: next.StopNodesFirst, err: err}
	case errors.As(err, &refused):
		return &failure{code: exitFailed, what: "this Redis server is refused: " + refused.Problem, next: refused.Next, err: err}
	case errors.As(err, &loses):
		return &failure{code: exitFailed, what: "this PostgreSQL server is refused: " + loses.Problem, next: loses.Next, err: err}
	case errors.As(err, &pooled):
		return &failure{code: exitFailed, what: pooled.Error(), next: pooled.Next(), err: err}
	case errors.As(err, &busy):
		return &failure{code: exitConflict, what: busy.Error(), next: busy.Next(), err: err}
	case errors.As(err, &pair):
		return &failure{code: exitConflict, what: pair.Error(), next: pair.Next(), err: err}
	case fatal:
		return &failure{code: exitFailed, what: err.Error(), next: advice, err: err}
	case errors.As(err, &op) && op.Op == "dial", errors.As(err, &name):
		return &failure{code: exitUnavailable, what: err.Error(), next: next.CheckStoreServer, err: err}
	case errors.Is(err, persistence.ErrUnavailable):
		return &failure{code: exitUnavailable, what: err.Error(), next: cmp.Or(advice, next.LookAtStore), err: err}
	}
	return err
}

// storeInUse is the conflict of two processes over one folder.
func storeInUse(l *sqlite.LockedError) error {
	return &failure{code: exitConflict, what: fmt.Sprintf("the store in %s is in use by %s", l.Dir, l.Holder),
		next: next.StopOrOtherData, err: l}
}
