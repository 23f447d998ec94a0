package openclawtest

import (
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

const maxReruns = 3

// reclaim reads at boot what the life before left behind. Inputs that had not
// reached the model stay pending as interrupted; a turn that had is given a run
// id under which it will run again. Callers hold g.mu.
func (g *Gateway) reclaim(l *life) {
	st := g.store
	st.interruptSubAgents()
	for i := range st.tasks {
		if t := st.tasks[i]; t.Status == "running" {
			t.Status, t.Ended, t.Summary = "cancelled", nowMs(), "Task execution process exited before restart."
			st.putTask(t)
		}
	}
	for _, s := range st.sessions {
		for _, in := range slices.Clone(s.Pending) {
			if st.userTurn(s, in.RunID) != turnNew {
				st.dropPending(s, in.RunID) // the crash fell between two writes
			}
		}
		for i := range s.Pending {
			s.Pending[i].Interrupted = true
		}
		if s.Status == "running" {
			g.reclaimTurn(l, s)
			st.saveMeta(s)
		}
	}
}

func (g *Gateway) reclaimTurn(l *life, s *session) {
	if s.Reruns >= maxReruns {
		s.Status, s.AbortedLastRun, s.Ended, s.RunID, s.RunMessage = "failed", false, nowMs(), "", ""
		g.cfg.Log.write(Line{Gateway: g.cfg.Name, Boot: l.boot, Session: s.Key, Event: LogGaveUp})
		return
	}
	s.Reruns++
	s.AbortedLastRun = true
	if n := len(s.entries); g.is2026x8() && n > 0 && s.entries[n-1].Role == "user" && s.entries[n-1].Text == systemRerun {
		s.RunMessage = systemRerun // the re-run that was cut off had the text in its prompt only: it is lost
	}
	r := &run{id: uuid.NewString(), key: s.Key, sessionID: s.ID, via: viaRecovery, state: stateRerun, message: systemRerun, sess: s, accepted: nowMs()}
	s.active = r
	l.runs[r.id] = r
	l.open++
}

// scheduleReruns starts each pending re-run 1 to 10 s (scaled) after ready.
func (g *Gateway) scheduleReruns(l *life) {
	var waiting []*run
	for _, r := range l.runs {
		if r.state == stateRerun {
			waiting = append(waiting, r)
		}
	}
	slices.SortFunc(waiting, func(a, b *run) int { return strings.Compare(a.key, b.key) })
	for _, r := range waiting {
		d := g.scaled(time.Second + time.Duration(g.rng.Float64()*float64(9*time.Second)))
		g.later(l, r, d, func() { g.startRerun(l, r) })
	}
}

// startRerun is held back while the gateway is suspended.
func (g *Gateway) startRerun(l *life, r *run) {
	if l.suspend.phase != phaseAccepting {
		g.later(l, r, g.scaled(time.Second), func() { g.startRerun(l, r) })
		return
	}
	g.cfg.Logger.Info("[main-session-restart-recovery] started interrupted main session", "gateway", g.cfg.Name, "session", r.key, "run_id", r.id)
	g.enterLane(l, r)
}
