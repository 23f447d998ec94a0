package persistence

import (
	"fmt"

	"github.com/dash-fleet/dash/messages"
)

// CheckOps refuses a batch with an op that no engine can give a meaning to; it
// is CodeInvalid, as whatever no later try can change.
// Every engine calls it first in Commit.
func CheckOps(ops []Op) error {
	for i := range ops {
		if err := ops[i].check(); err != nil {
			return fmt.Errorf("op %d: %w", i, err)
		}
	}
	return nil
}

func (op *Op) check() error {
	kinds := 0
	for _, set := range [...]bool{op.Insert != nil, op.Update != nil, op.Cancel != nil} {
		if set {
			kinds++
		}
	}
	if kinds > 1 {
		return meaningless("an op holds at most one of Insert, Update and Cancel: put the others into ops of their own")
	}
	if op.Insert != nil && (op.Insert.Task.ID == "" || op.Insert.Task.Tenant == "") {
		return meaningless("a task to insert needs an id and a tenant")
	}
	return nil
}

func meaningless(what string) error {
	return &messages.Error{Code: messages.CodeInvalid, Message: what}
}
