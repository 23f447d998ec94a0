package events

import (
	"context"

	"github.com/dash-fleet/dash/http/api"
	"github.com/dash-fleet/dash/messages"
)

// position says how far the client has been told everything that it wants.
func (k *socket) position(ctx context.Context, last int64) error {
	b, err := encode(typePosition, last, messages.Now(), nil)
	if err != nil {
		return err
	}
	return k.send(ctx, b)
}

func (k *socket) subscribed(ctx context.Context, last int64) error {
	b, err := encode(typeSubscribed, 0, messages.Now(), api.Subscribed{Topics: k.topics.Names(), Since: last})
	if err != nil {
		return err
	}
	return k.send(ctx, b)
}
