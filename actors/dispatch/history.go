package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dash-fleet/dash/messages"
)

// readContext is the context of a read of the store.
type readContext = context.Context

// Bounds of a replayed history.
const (
	historyTurns = 200
	historyBytes = 128 << 10
)

// historyKnown reports whether the pool knows what the session's generation
// starts with.
func (b *broker) historyKnown(s *session) bool {
	return !s.row.Replay || s.historyOf == s.row.Generation
}

// loadHistory reads the transcript for the session's generation. The session
// runs nothing meanwhile.
func (b *broker) loadHistory(s *session) {
	if s.busy {
		b.bind(s) // frozen until that is over, or pump would find it again
		return
	}
	s.busy = true
	b.bind(s)
	tenant, id, generation := s.row.Tenant, s.row.ID, s.row.Generation
	b.s.read(b.self, func(ctx readContext) any {
		turns, err := History(ctx, b.s.Store, tenant, id)
		return again{func(ctx actor.Context) { b.historyRead(ctx, s, generation, turns, err) }}
	})
}

func (b *broker) historyRead(ctx actor.Context, s *session, generation int64, turns []messages.Task, err error) {
	s.busy = false
	switch {
	case err != nil:
		b.s.Logger.Warn("transcript cannot be read, trying again", slog.String("session", s.row.ID), slog.Any("err", err))
		s.busy = true
		b.s.after(storeRetry, b.self, again{func(actor.Context) { s.busy = false; b.loadHistory(s) }})
	case s.row.Generation == generation:
		turns = s.row.Turns(turns)
		s.historyOf, s.history = generation, ""
		if n := len(turns); n > 0 && turns[n-1].Generation != generation {
			s.history = Replayed(turns)
		}
	}
	b.bind(s)
	b.sessionLater(ctx, s)
}

// Transcripts is where the turns of sessions are.
type Transcripts interface {
	Transcript(ctx context.Context, tenant, session, before string, limit int) (turns []messages.Task, older bool, err error)
}

// History reads the newest turns of a session, as many as are replayed. A page
// of long turns holds few of them, of each of which little is replayed.
func History(ctx context.Context, store Transcripts, tenant, session string) (turns []messages.Task, err error) {
	for before, size := "", 0; size <= historyBytes && len(turns) < historyTurns; {
		page, older, err := store.Transcript(ctx, tenant, session, before, historyTurns-len(turns))
		if err != nil {
			return nil, err
		}
		for i := range page {
			size += len(clip(page[i].Spec.GetMessage())) + len(clip(page[i].Result.GetText()))
		}
		if turns = slices.Concat(page, turns); !older || len(page) == 0 {
			break
		}
		before = page[0].ID
	}
	return turns, nil
}

// turnOver drops the history of a generation that has answered: it has it now.
func (b *broker) turnOver(t *messages.Task) {
	if t.Session == "" || t.State != messages.Succeeded {
		return
	}
	if s := b.sessions[sessionID(t.Tenant, t.Session)]; s != nil && s.row.Generation == t.Generation {
		s.history, s.historyOf = "", t.Generation
	}
}

// Replayed is the plain text that opens a new generation of a session: its
// succeeded turns in order, between two marks that name the seam. It is at
// most about 128 KiB; what is cut off at the older end is said.
func Replayed(turns []messages.Task) string {
	parts := make([]string, 0, len(turns))
	size, first := 0, len(turns)
	for i := len(turns) - 1; i >= 0; i-- {
		p := "User: " + clip(turns[i].Spec.GetMessage()) + "\n\nAssistant: " + clip(turns[i].Result.GetText()) + "\n\n"
		if size+len(p) > historyBytes {
			break
		}
		size += len(p)
		first = i
		parts = append(parts, p)
	}
	if len(parts) == 0 {
		return ""
	}
	var sb strings.Builder
	sb.Grow(size + 512)
	sb.WriteString("[Replayed conversation: this session continues here from another place. The turns below were completed there. Do not answer them again.]\n\n")
	if first > 0 || len(turns) == historyTurns {
		fmt.Fprintf(&sb, "[Earlier turns are left out: only the newest %d are replayed.]\n\n", len(parts))
	}
	for i := len(parts) - 1; i >= 0; i-- {
		sb.WriteString(parts[i])
	}
	sb.WriteString("[End of the replayed conversation. The session goes on with the next message.]")
	return sb.String()
}

// clip bounds one text of a replayed turn and marks the cut.
func clip(s string) string {
	const limit = historyBytes / 4
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + " [cut here: the text was longer]"
}
