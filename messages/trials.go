package messages

import (
	"fmt"
	"strings"
	"time"
)

// Bounds of what a task may go through without burning an attempt.
const (
	// SuspectAfter deaths of its gateway a task runs only alone there.
	SuspectAfter = 2
	// MaxDeaths ends a task whatever else ran beside it.
	MaxDeaths = 10
	// MaxStops planned ends of its gateway's process are no deaths; from then on
	// each is.
	MaxStops = 5
	// MaxGivenBack attempts are given back; from then on each is burned.
	MaxGivenBack = 20
)

// Suspect reports whether the task may be what kills gateways, so that it must
// have one to itself.
func (t *Task) Suspect() bool { return len(t.Trials.GetDeaths()) >= SuspectAfter }

// Doomed reports whether the task is not run again: its gateway died while it
// ran alone, or too often.
func (t *Task) Doomed() bool {
	deaths := t.Trials.GetDeaths()
	return len(deaths) >= MaxDeaths || len(deaths) > 0 && deaths[len(deaths)-1].Alone
}

// copyTrials returns what may be changed before it is set again.
func (t *Task) copyTrials() *Trials {
	return &Trials{
		Deaths:    append([]*GatewayDeath(nil), t.Trials.GetDeaths()...),
		GivenBack: t.Trials.GetGivenBack(), GivenBackReason: t.Trials.GetGivenBackReason(),
		Stops: t.Trials.GetStops(),
	}
}

// CountDeath notes the unplanned end of the gateway process that was at work
// on the task.
func (t *Task) CountDeath(at time.Time, alone bool) {
	n := t.copyTrials()
	n.Deaths = append(n.Deaths, &GatewayDeath{Gateway: t.Gateway, TimeMicros: at.UnixMicro(), Alone: alone})
	t.Trials = n
}

// Ends are all ends of gateway processes that are told of.
func (n *Trials) Ends() int { return len(n.GetDeaths()) + int(n.GetStops()) }

// CountStop notes a planned end of the gateway process that was at work on the
// task, and reports whether there were so many that this one counts as a death.
func (t *Task) CountStop() bool {
	n := t.copyTrials()
	n.Stops++
	t.Trials = n
	return n.Stops > MaxStops
}

// CountGivenBack notes that the attempt was given back.
func (t *Task) CountGivenBack(reason string) {
	n := t.copyTrials()
	n.GivenBack++
	n.GivenBackReason = reason
	t.Trials = n
}

// Story tells of the deaths in words.
func (n *Trials) Story() string {
	var b strings.Builder
	for i, d := range n.GetDeaths() {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s at %s", d.GetGateway(), time.UnixMicro(d.GetTimeMicros()).UTC().Format(time.RFC3339))
		if d.GetAlone() {
			b.WriteString(" (running alone)")
		}
	}
	if n.GetStops() > 0 {
		fmt.Fprintf(&b, "; besides, the gateway was restarted in an orderly way %d times meanwhile, and after %d times that counts, too", n.GetStops(), MaxStops)
	}
	return b.String()
}
