package sqlite

import (
	"google.golang.org/protobuf/proto"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/wire"
	"github.com/dash-fleet/dash/persistence/internal/rows"
)

// marshal is rows.Marshal; what cannot be encoded is the operation's fault.
func marshal(m proto.Message) ([]byte, error) { return appendProto([]byte{}, m) }

func appendProto(buf []byte, m proto.Message) ([]byte, error) {
	out, err := wire.Append(buf, m)
	if err != nil {
		return nil, &opError{err}
	}
	return out, nil
}

func encodeRun(t *messages.Task) ([]byte, error) {
	out, err := wire.EncodeRun(t)
	if err != nil {
		return nil, &opError{err}
	}
	return out, nil
}

// appendEvent adds one entry of the event log.
func appendEvent(buf []byte, e *messages.Event) ([]byte, error) {
	out, err := rows.AppendEvent(buf, e)
	if err != nil {
		return nil, &opError{err}
	}
	return out, nil
}
