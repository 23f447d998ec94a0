package wire

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/dash-fleet/dash/messages"
)

// EncodeMail packs a message between a pool's owner and a gateway's owner, of a
// type that DecodeMail returns.
func EncodeMail(mail any) ([]byte, error) {
	var m Mail
	switch v := mail.(type) {
	case messages.Demand:
		m.Body = &Mail_Demand{fromDemand(&v)}
	case messages.Taken:
		m.Body = &Mail_Taken{&Taken{Claims: list(v.Claims, fromClaim)}}
	case *messages.Assign:
		m.Body = &Mail_Assign{&Assign{Task: fromTask(&v.Task), Session: fromSession(v.Session), History: v.History}}
	case messages.StopRun:
		m.Body = &Mail_StopRun{fromClaim(&v.ClaimRef)}
	case messages.Withdraw:
		m.Body = &Mail_Withdraw{&Withdraw{Claim: fromClaim(&v.ClaimRef), Held: v.Held}}
	case *messages.Ended:
		m.Body = &Mail_Ended{&Ended{Task: fromTask(&v.Task), Session: fromSession(v.Session)}}
	case messages.Proof:
		m.Body = &Mail_Proof{fromTask(&v.Task)}
	case messages.SessionChangedByG:
		m.Body = &Mail_SessionChanged{fromSession(&v.Session)}
	default:
		return nil, fmt.Errorf("encode mail: %T is none", mail)
	}
	return Marshal(&m)
}

// DecodeMail is the inverse of EncodeMail: it returns a Demand, Taken, StopRun,
// Withdraw, Proof or SessionChangedByG, or a pointer to an Assign or Ended.
func DecodeMail(b []byte) (any, error) {
	var m Mail
	if err := proto.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("decode mail: %w", err)
	}
	switch v := m.Body.(type) {
	case *Mail_Demand:
		return v.Demand.value(), nil
	case *Mail_Taken:
		return messages.Taken{Claims: list(v.Taken.Claims, toClaim)}, nil
	case *Mail_Assign:
		return &messages.Assign{Task: v.Assign.Task.value(), Session: v.Assign.Session.value(), History: v.Assign.History}, nil
	case *Mail_StopRun:
		return messages.StopRun{ClaimRef: v.StopRun.value()}, nil
	case *Mail_Withdraw:
		return messages.Withdraw{ClaimRef: v.Withdraw.Claim.value(), Held: v.Withdraw.Held}, nil
	case *Mail_Ended:
		return &messages.Ended{Task: v.Ended.Task.value(), Session: v.Ended.Session.value()}, nil
	case *Mail_Proof:
		return messages.Proof{Task: v.Proof.value()}, nil
	case *Mail_SessionChanged:
		return messages.SessionChangedByG{Session: *v.SessionChanged.value()}, nil
	}
	return nil, fmt.Errorf("decode mail: of a kind that this release does not know")
}

func fromSession(s *messages.Session) *Session {
	if s == nil {
		return nil
	}
	return &Session{
		Tenant: s.Tenant, Id: s.ID, Pool: s.Pool, Gateway: s.Gateway, Generation: s.Generation, Replay: s.Replay, State: uint32(s.State),
		Reason: s.Reason, NextStep: s.NextStep, Restarts: int64(s.Restarts), Labels: s.Labels,
		Created: messages.Micros(s.CreatedAt), Updated: messages.Micros(s.UpdatedAt),
	}
}

func (m *Session) value() *messages.Session {
	if m == nil {
		return nil
	}
	return &messages.Session{
		Tenant: m.Tenant, ID: m.Id, Pool: m.Pool, Gateway: m.Gateway, Generation: m.Generation, Replay: m.Replay, State: messages.SessionState(m.State),
		Reason: m.Reason, NextStep: m.NextStep, Restarts: int(m.Restarts), Labels: m.Labels,
		CreatedAt: messages.FromMicros(m.Created), UpdatedAt: messages.FromMicros(m.Updated),
	}
}

func fromDemand(d *messages.Demand) *Demand {
	m := &Demand{
		Gateway: d.Gateway, Tenant: d.Tenant, Pool: d.Pool, Region: d.Region, Capabilities: d.Capabilities, Labels: d.Labels, Weight: int64(d.Weight),
		Owner: d.Owner, Epoch: d.Epoch, BootId: d.BootID, Window: int64(d.Window), Running: list(d.Running, fromClaim),
		Returned: list(d.Returned, fromReturned), AwaySince: messages.Micros(d.AwaySince),
		Paused: list(d.Paused, fromPause), Draining: d.Draining, Gone: d.Gone,
	}
	for claim, trials := range d.Trials {
		m.Trials = append(m.Trials, &ClaimTrials{Claim: fromClaim(&claim), Trials: trials})
	}
	return m
}

func (m *Demand) value() messages.Demand {
	d := messages.Demand{
		Gateway: m.Gateway, Tenant: m.Tenant, Pool: m.Pool, Region: m.Region, Capabilities: m.Capabilities, Labels: m.Labels, Weight: int(m.Weight),
		Owner: m.Owner, Epoch: m.Epoch, BootID: m.BootId, Window: int(m.Window), Running: list(m.Running, toClaim),
		Returned: list(m.Returned, toReturned), AwaySince: messages.FromMicros(m.AwaySince),
		Paused: list(m.Paused, toPause), Draining: m.Draining, Gone: m.Gone,
	}
	if len(m.Trials) > 0 {
		d.Trials = make(map[messages.ClaimRef]*messages.Trials, len(m.Trials))
	}
	for _, t := range m.Trials {
		d.Trials[t.Claim.value()] = t.Trials
	}
	return d
}

func fromClaim(c *messages.ClaimRef) *ClaimRef { return &ClaimRef{Task: c.Task, Claim: c.Claim} }

func (m *ClaimRef) value() messages.ClaimRef {
	return messages.ClaimRef{Task: m.GetTask(), Claim: m.GetClaim()}
}

func toClaim(m **ClaimRef) messages.ClaimRef { return (*m).value() }

func fromReturned(r *messages.Returned) *Returned {
	return &Returned{Claim: fromClaim(&r.ClaimRef), Reason: r.Reason, Refused: r.Refused, Trials: r.Trials}
}

func toReturned(m **Returned) messages.Returned {
	r := *m
	return messages.Returned{ClaimRef: r.Claim.value(), Reason: r.Reason, Refused: r.Refused, Trials: r.Trials}
}

func fromPause(p *messages.Pause) *Pause {
	return &Pause{Provider: p.Provider, Until: messages.Micros(p.Until), Why: p.Why}
}

func toPause(m **Pause) messages.Pause {
	p := *m
	return messages.Pause{Provider: p.Provider, Until: messages.FromMicros(p.Until), Why: p.Why}
}

// list converts each item; nothing gives nil.
func list[A, B any](in []A, convert func(*A) B) []B {
	if len(in) == 0 {
		return nil
	}
	out := make([]B, len(in))
	for i := range in {
		out[i] = convert(&in[i])
	}
	return out
}
