package app

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
	"github.com/dash-fleet/dash/persistence"
)

// poolUse is whose a pool of this node is, and who uses it: those who bring
// something to it, any number at once, or the one who removes it, alone. Who waits
// to have it alone keeps nobody out: a replay uses a pool again while it uses it.
type poolUse struct {
	tenant string

	mu    sync.Mutex
	users int
	alone chan struct{} // nil unless somebody has the pool alone; closed at the end of that
	idle  chan struct{} // nil unless somebody waits to have it alone; closed when no user is left
}

// enter makes the caller a user, once nobody has the pool alone.
func (u *poolUse) enter(ctx context.Context) error {
	for {
		u.mu.Lock()
		alone := u.alone
		if alone == nil {
			u.users++
		}
		u.mu.Unlock()
		if alone == nil {
			return nil
		}
		if err := until(ctx, alone); err != nil {
			return err
		}
	}
}

func (u *poolUse) leave() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.users--; u.users == 0 && u.idle != nil {
		close(u.idle)
		u.idle = nil
	}
}

// shut gives the caller the pool alone, once it has no users.
func (u *poolUse) shut(ctx context.Context) error {
	for {
		u.mu.Lock()
		wait := u.alone
		switch {
		case wait != nil:
		case u.users > 0:
			if u.idle == nil {
				u.idle = make(chan struct{})
			}
			wait = u.idle
		default:
			u.alone = make(chan struct{})
			u.mu.Unlock()
			return nil
		}
		u.mu.Unlock()
		if err := until(ctx, wait); err != nil {
			return err
		}
	}
}

func (u *poolUse) open() {
	u.mu.Lock()
	defer u.mu.Unlock()
	close(u.alone)
	u.alone = nil
}

func until(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// use begins to use a pool for a tenant; it is not the tenant's if end is nil. The
// store is asked only about a pool that has no owner here.
func (f *fleet) use(ctx context.Context, tenant, id string) (end func(), err error) {
	for {
		v, known := f.poolUses.Load(id)
		if !known {
			p, there, err := f.poolConfig(ctx, id)
			if err != nil || !there || p.Tenant != tenant {
				return nil, err
			}
			if err := f.ensurePool(ctx, id); err != nil && !errors.Is(err, persistence.ErrNotFound) {
				return nil, err
			}
			continue
		}
		u := v.(*poolUse)
		if err := u.enter(ctx); err != nil {
			return nil, err
		}
		if now, _ := f.poolUses.Load(id); now != v { // it was removed, or changed hands, meanwhile
			u.leave()
			continue
		}
		if u.tenant != tenant {
			u.leave()
			return nil, nil
		}
		return u.leave, nil
	}
}

// aloneIn is how long a pool's removal waits for the end of what is being brought to it.
const aloneIn = time.Second

// alone waits until nobody brings anything to a pool, and keeps others from it.
func (f *fleet) alone(ctx context.Context, id string) (end func(), err error) {
	if err := f.ensurePool(ctx, id); err != nil {
		return nil, persistence.Refusal(err, "pool", id)
	}
	v, _ := f.poolUses.Load(id)
	u := v.(*poolUse)
	ctx, cancel := context.WithTimeout(ctx, aloneIn)
	defer cancel()
	if u.shut(ctx) != nil {
		return nil, &messages.Error{
			Code: messages.CodeWrongState, Message: "the pool " + id + " is being used by other requests", NextStep: next.TryAgain, RetryAfter: time.Second,
		}
	}
	return u.open, nil
}
