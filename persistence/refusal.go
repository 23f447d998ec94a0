package persistence

import (
	"errors"
	"fmt"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// Refusal turns an error of the store about a thing into one for who asked;
// what is the thing's kind. Nil stays nil, and what the store has no word for stays as it is.
func Refusal(err error, what, id string) error {
	switch {
	case errors.Is(err, ErrNotFound):
		return NotThere(what, id)
	case errors.Is(err, ErrExists):
		return &messages.Error{Code: messages.CodeConflict, Message: fmt.Sprintf("the %s %q exists", what, id), NextStep: next.OtherIDOrChange}
	case errors.Is(err, ErrVersion):
		return &messages.Error{Code: messages.CodeVersionClash, Message: fmt.Sprintf("the %s %q was changed meanwhile", what, id), NextStep: next.ReadAndRepeat}
	case errors.Is(err, ErrUnavailable):
		return &messages.Error{Code: messages.CodeUnavailable, Message: "the store is not available now", NextStep: next.TryAgainLookFirst, RetryAfter: time.Second, Err: err}
	}
	return err
}

// NotThere is the refusal of a thing that is not there, or not there for who asked.
func NotThere(what, id string) *messages.Error {
	return &messages.Error{Code: messages.CodeNotFound, Message: fmt.Sprintf("there is no %s %q", what, id), NextStep: fmt.Sprintf(next.ListThem, what)}
}

// Taken refuses an id of which the caller must not learn whose it is.
func Taken(id string) *messages.Error {
	return &messages.Error{Code: messages.CodeConflict, Message: fmt.Sprintf("the id %q is not free", id), NextStep: next.OtherID}
}
