package events

import (
	"errors"
	"testing"
)

// FuzzFrame: what a WebSocket's client sends is refused as not understood, or its
// position and topics are such that a stream can begin with them.
func FuzzFrame(f *testing.F) {
	for _, s := range []string{
		`{"type":"subscribe","topics":["task.*"],"since":0}`, `{"type":"subscribe","since":9223372036854775807}`, `{"type":"subscribe","since":-1}`,
		`{"type":"auth","token":"dash_x"}`, `{"type":"subscribe","topics":["gateway.gw.1.state","*"]}`, `{"type":"subscribe"}{`, `[]`, `{"type":"subscribe","since":1e3}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := parseFrame(b)
		if err != nil {
			if !errors.Is(err, errFrame) {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		if fr.Type == "auth" {
			return
		}
		if fr.Type != "subscribe" || (fr.Since != nil && *fr.Since < 0) || len(fr.Topics) > maxTopics {
			t.Fatalf("accepted %+v", fr)
		}
		for _, topic := range fr.Topics {
			if !ValidTopic(topic) {
				t.Fatalf("accepted the topic %q", topic)
			}
		}
		ParseTopics(fr.Topics)
	})
}
