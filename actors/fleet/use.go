package fleet

import (
	"context"
	"errors"
	"fmt"
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

// Use begins to use a pool for a tenant; it is not the tenant's if end is nil. The
// store is asked only about a pool that has no owner here.
func (f *Fleet) Use(ctx context.Context, tenant, id string) (end func(), err error) {
	for {
		v, known := f.uses.Load(id)
		if !known {
			p, there, err := f.PoolConfig(ctx, id)
			if err != nil || !there || p.Tenant != tenant {
				return nil, err
			}
			if err := f.EnsurePool(ctx, id); err != nil && !errors.Is(err, persistence.ErrNotFound) {
				return nil, err
			}
			continue
		}
		u := v.(*poolUse)
		if err := u.enter(ctx); err != nil {
			return nil, err
		}
		if now, _ := f.uses.Load(id); now != v { // it was removed, or changed hands, meanwhile
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

// Alone waits until nobody brings anything to a pool, and keeps others from it.
func (f *Fleet) Alone(ctx context.Context, id string) (end func(), err error) {
	if err := f.EnsurePool(ctx, id); err != nil {
		return nil, persistence.Refusal(err, "pool", id)
	}
	v, _ := f.uses.Load(id)
	return v.(*poolUse).take(ctx, id)
}

// take is shut, within aloneIn.
func (u *poolUse) take(ctx context.Context, id string) (end func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, aloneIn)
	defer cancel()
	if u.shut(ctx) != nil {
		return nil, &messages.Error{
			Code: messages.CodeWrongState, Message: "the pool " + id + " is being used by other requests", NextStep: next.TryAgain, RetryAfter: time.Second,
		}
	}
	return u.open, nil
}

// ChangedHands says whose a pool is from now on; the caller has it alone.
func (f *Fleet) ChangedHands(p messages.Pool) { f.uses.Store(p.ID, &poolUse{tenant: p.Tenant}) }

// ClaimPool keeps others from making the own pool of a tenant that is being made,
// until done, and refuses a tenant whose own pool would be one that others have.
func (f *Fleet) ClaimPool(ctx context.Context, tenant string) (done func(), err error) {
	done, err = f.ChangePools(ctx)
	if err != nil {
		return nil, persistence.Refusal(err, "pool", tenant)
	}
	p, there, err := f.PoolConfig(ctx, messages.OwnPool(tenant))
	switch {
	case err != nil:
		err = persistence.Refusal(err, "pool", tenant)
	case there && p.Tenant != tenant:
		err = &messages.Error{
			Code: messages.CodeConflict, Message: "tenant " + p.Tenant + " has a pool of this name, which would be the new tenant's own",
			NextStep: fmt.Sprintf(next.OtherIDOrPool, p.ID),
		}
	default:
		return done, nil
	}
	done()
	return nil, err
}
