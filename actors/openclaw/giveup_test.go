package openclaw

import (
	"context"
	"errors"
	"testing"
)

// TestWhatIsGivenUpIsNotWritten: its caller was told that nothing was, and may
// ask again.
func TestWhatIsGivenUpIsNotWritten(t *testing.T) {
	t.Parallel()
	first, second := &pending{id: 1, frame: []byte("1")}, &pending{id: 2, frame: []byte("2")}
	c := &Conn{pending: map[uint64]*pending{1: first, 2: second}, queue: []*pending{first, second}, queueBytes: 2}
	_, err := c.giveUp(first, context.Canceled)
	var lost *LostError
	if !errors.As(err, &lost) || lost.Written {
		t.Errorf("given up with %v", err)
	}
	if frame := c.take(); string(frame) != "2" {
		t.Errorf("written is %q, want the second request", frame)
	}
	if frame := c.take(); frame != nil || c.queueBytes != 0 {
		t.Errorf("written is %q; %d bytes wait", frame, c.queueBytes)
	}
}
