package cluster

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dash-fleet/dash/messages"
)

func TestHomeKeepsItsGateways(t *testing.T) {
	t.Parallel()
	managed := &messages.Managed{}
	for _, c := range []struct {
		name string
		g    messages.Gateway
		want bool
	}{
		{"its own", messages.Gateway{Managed: managed, Node: "a", Home: "h1"}, true},
		{"its own after the node got another name", messages.Gateway{Managed: managed, Node: "old", Home: "h1"}, true},
		{"of another folder of the same name", messages.Gateway{Managed: managed, Node: "a", Home: "h2"}, false},
		{"unclaimed, of this name", messages.Gateway{Managed: managed, Node: "a"}, true},
		{"unclaimed, of another name", messages.Gateway{Managed: managed, Node: "b"}, false},
		{"unclaimed, of a release without nodes", messages.Gateway{Managed: managed}, true},
		{"loopback of another home", messages.Gateway{URL: "ws://127.0.0.1:1", Node: "b", Home: "h2"}, false},
		{"loopback by name", messages.Gateway{URL: "ws://LocalHost.:1", Node: "b"}, false},
		{"loopback, all addresses", messages.Gateway{URL: "ws://[::]:1", Node: "b"}, false},
		{"loopback, mapped", messages.Gateway{URL: "ws://[::ffff:127.0.0.2]:1", Node: "b"}, false},
		{"a gateway on the network", messages.Gateway{URL: "wss://gw.example:1", Node: "b", Home: "h2"}, true},
	} {
		if got := (Home{Node: "a", ID: "h1"}).Keeps(&c.g); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
	if (Home{Node: "a"}).Keeps(&messages.Gateway{Managed: managed, Node: "a", Home: "h1"}) {
		t.Error("a node with a temporary folder keeps what another folder does")
	}
}

// TestBetterHome: only a node that is the home of more gateways is worth a
// hand-over, or an equal one with runs that nobody reads; nothing goes back and forth.
func TestBetterHome(t *testing.T) {
	t.Parallel()
	const tail = "-0123456789ab"
	nodes := []messages.Node{{ID: "a" + tail, Home: "h1"}, {ID: "b" + tail, Home: "h2"}, {ID: "c" + tail, Home: "h3"}}
	at := func(ids ...string) (all []messages.Gateway) {
		for _, id := range ids {
			all = append(all, messages.Gateway{Managed: &messages.Managed{}, Node: "x", Home: id})
		}
		return append(all, messages.Gateway{URL: "wss://gw.example", Home: "h3"}) // anybody reaches it
	}
	for _, c := range []struct {
		name     string
		gateways []messages.Gateway
		unread   []string
		want     string
	}{
		{"nobody has any", at(), []string{"h2"}, ""},
		{"this one has most", at("h1", "h1", "h2"), []string{"h2"}, ""},
		{"equals", at("h1", "h2"), nil, ""},
		{"an equal was killed under its runs", at("h1", "h2", "h3"), []string{"h3"}, "c" + tail},
		{"both were", at("h1", "h2"), []string{"h1", "h2"}, ""},
		{"an equal was, and another has more", at("h1", "h2", "h3", "h3"), []string{"h2"}, "c" + tail},
		{"another has more", at("h1", "h2", "h2"), nil, "b" + tail},
		{"the most of all", at("h2", "h3", "h3"), nil, "c" + tail},
		{"a dead home", at("h9", "h9"), []string{"h9"}, ""},
		{"unclaimed, by name", append(at(), messages.Gateway{Managed: &messages.Managed{}, Node: "c"}), nil, "c" + tail},
	} {
		unread := func(h Home) bool { return slices.Contains(c.unread, h.ID) }
		if got := (Home{Node: "a", ID: "h1"}).better("a"+tail, nodes, c.gateways, unread); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if got := (Home{Node: "a", ID: "h1"}).better("a"+tail, nodes[:1], at("h2"), func(Home) bool { return true }); got != "" {
		t.Errorf("alone: %q", got)
	}
}

// TestTheFolderIsGivenBackAtOnce: a node that starts anew takes its folder again
// although a child that was forked a moment ago still holds the descriptor.
func TestTheFolderIsGivenBackAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lock, err := lockFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	child, err := unix.Dup(int(lock.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(child) })
	if err := unlockFolder(lock); err != nil {
		t.Fatal(err)
	}
	again, err := lockFolder(dir)
	if err != nil {
		t.Fatalf("the next life: %v", err)
	}
	if err := unlockFolder(again); err != nil {
		t.Error(err)
	}
}
