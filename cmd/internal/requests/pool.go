package requests

import (
	"errors"
	"fmt"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// ErrNoPool is in the chain of what refuses a pool that the tenant has not.
var ErrNoPool = errors.New("no pool of that tenant")

// NoPool refuses a pool that is not the tenant's, as one that is not there.
func NoPool(tenant, id string) *messages.Error {
	e := &messages.Error{
		Code: messages.CodeInvalid, Err: ErrNoPool, Message: fmt.Sprintf("tenant %s has no pool %q", tenant, id),
		NextStep: fmt.Sprintf(next.MakePool, id, tenant, messages.OwnPool(tenant)),
		Fields:   []messages.FieldError{{Pointer: "/pool", Detail: "unknown pool"}},
	}
	if id == messages.DefaultPool { // which nobody else can make
		e.NextStep = fmt.Sprintf(next.LeavePoolOut, messages.OwnPool(tenant))
	}
	return e
}
