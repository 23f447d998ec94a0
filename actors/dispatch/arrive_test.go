package dispatch

import (
	"testing"
	"testing/synctest"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/persistence"
)

// TestNoClaimOvertakesATaskOnItsWay has a gateway ask for work while a task of
// a higher class is being made durable: whoever reads the log by position
// finds the smaller task queued before the claim, so it must be the one claimed.
func TestNoClaimOvertakesATaskOnItsWay(t *testing.T) { play(t, nil, noClaimOvertakes) }

func noClaimOvertakes(t *testing.T, b *bench) {
	g := b.gateway("gw-1")
	g.demand(0)
	low := b.submit(newTask(messages.Low, ""))
	hold := make(chan struct{})
	b.store.set(func(m *memory) { m.hold = hold })
	critical := newTask(messages.Critical, "")
	done := make(chan error, 1)
	go func() {
		_, _, err := b.client.Submit(b.ctx(), "default", Submit{Task: critical})
		done <- err
	}()
	synctest.Wait()
	g.demand(1)
	synctest.Wait()
	b.store.set(func(m *memory) { m.hold = nil })
	close(hold)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if a := g.assign(); a.Task.ID != critical.ID {
		t.Errorf("the gateway got %s of class %s, want the critical task", a.Task.ID, a.Task.Class)
	}
	if row := b.row(low.ID); row.State != messages.Queued {
		t.Errorf("the low task is %s, want queued", row.State)
	}
}

// TestTasksThatWereNotWrittenLeaveNothing: a submit that the store refuses, and
// the repetition of one that it has, give back their place and their credit.
func TestTasksThatWereNotWrittenLeaveNothing(t *testing.T) { play(t, nil, notWritten) }

func notWritten(t *testing.T, b *bench) {
	g := b.gateway("gw-1")
	g.demand(1)
	b.stats() // the pool serves
	b.store.set(func(m *memory) { m.err = persistence.ErrUnavailable })
	for range 3 {
		if _, _, err := b.client.Submit(b.ctx(), "default", Submit{Task: newTask(messages.High, "")}); messages.CodeOf(err) != messages.CodeUnavailable {
			t.Fatalf("submit while the store is down: %v", err)
		}
	}
	b.store.set(func(m *memory) { m.err = nil })
	first, _, err := b.client.Submit(b.ctx(), "default", Submit{Task: newTask(messages.High, ""), IdemKey: "k", IdemHash: []byte("h")})
	if err != nil {
		t.Fatal(err)
	}
	a := g.assign()
	for range 3 {
		again, existing, err := b.client.Submit(b.ctx(), "default", Submit{Task: newTask(messages.High, ""), IdemKey: "k", IdemHash: []byte("h")})
		if err != nil || !existing || again.ID != first.ID {
			t.Fatalf("repeated submit: %s, %t, %v; want %s again", again.ID, existing, err, first.ID)
		}
	}
	g.end(a, messages.Succeeded)
	second := b.submit(newTask(messages.Low, ""))
	if a := g.assign(); a.Task.ID != second.ID {
		t.Errorf("the gateway got %s, want %s", a.Task.ID, second.ID)
	}
	synctest.Wait()
	s := b.stats()
	for _, c := range s.Classes {
		if c.Queued != 0 || c.Admitted != 0 {
			t.Errorf("class %s counts %d queued and %d admitted, want none", c.Class, c.Queued, c.Admitted)
		}
	}
	if s.Open != 1 {
		t.Errorf("%d tasks are open, want the running one", s.Open)
	}
}

// TestAClaimNamesTheProcessItIsFor: whoever finds a claim after a crash of Dash
// can tell whether the gateway's process is still the one that may have got it.
func TestAClaimNamesTheProcessItIsFor(t *testing.T) { play(t, nil, claimNamesBoot) }

func claimNamesBoot(t *testing.T, b *bench) {
	g := b.gateway("gw-1")
	g.demand(1, func(d *messages.Demand) { d.BootID = "boot-7" })
	task := b.submit(newTask(messages.High, ""))
	if a := g.assign(); a.Task.BootID != "boot-7" {
		t.Errorf("the assignment names boot %q", a.Task.BootID)
	}
	if row := b.row(task.ID); row.BootID != "boot-7" {
		t.Errorf("the row names boot %q", row.BootID)
	}
}
