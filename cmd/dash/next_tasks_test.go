package main

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dash-fleet/dash/actors/openclaw/openclawtest"
)

func followTasks(t *testing.T, a *advised) {
	p := serveNext(t, a)
	p.until(t, `(?s)sim-0 +ready.*sim-1 +ready`, "gateway", "list")
	t.Run("dead letters", func(t *testing.T) { followDeadLetters(t, p) })
	t.Run("held", func(t *testing.T) { followHeld(t, p) })
	t.Run("ids", func(t *testing.T) { followIDs(t, p) })
	t.Run("node", func(t *testing.T) { followNode(t, p) })
}

// followHeld loses a gateway under three tasks that must not run twice.
func followHeld(t *testing.T, p *person) {
	sim := simulator(t, openclawtest.Config{Token: "t", RunTime: 10 * time.Minute})
	p.types(t, exitOK, "pool", "set", "once", "--max-concurrency", "4", "--away", "1")
	p.types(t, exitOK, "gateway", "add", "gw-1", "--url", sim.URL(), "--token-file", secretIn(t, "t"), "--pool", "once", "--wait")
	var ids []string
	for range 3 {
		id := submitNext(t, p, "--pool", "once", "--on-unknown", "hold")
		p.until(t, "state +running", "task", "show", id)
		ids = append(ids, id)
	}
	if err := sim.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		p.until(t, "state +held", "task", "show", id)
	}
	doctor := p.types(t, exitFailed, "doctor").err
	wantPrinted(t, p.follow(t, "DecideHeld", 2, doctor), ids...)
	p.follow(t, "DecideHeld", 0, doctor, "ID", ids[0])
	p.follow(t, "DecideHeld", 1, doctor, "ID", ids[1])
	line := p.line(t, stepAt{"ReleaseTask", 0}, p.types(t, exitOK, "task", "show", ids[2]).err, nil, "--requeue")
	p.types(t, exitOK, line...)
	p.shows(t, []string{"task", "show", ids[0]}, "state +queued")
	p.shows(t, []string{"task", "show", ids[1]}, "state +dead_letter")
	p.shows(t, []string{"task", "show", ids[2]}, "state +queued")
	p.types(t, exitOK, "gateway", "remove", "gw-1", "--force")
	quick := simulator(t, openclawtest.Config{Token: "t"})
	p.types(t, exitOK, "gateway", "add", "gw-2", "--url", quick.URL(), "--token-file", secretIn(t, "t"), "--pool", "once")
	for _, i := range []int{0, 2} {
		p.until(t, "state +succeeded", "task", "show", ids[i])
	}
	p.types(t, exitOK, "gateway", "remove", "gw-2")
}

// followDeadLetters runs tasks on a gateway that fails, and again on the same
// one when it does not.
func followDeadLetters(t *testing.T, p *person) {
	sim := simulator(t, openclawtest.Config{Token: "t", Faults: openclawtest.Faults{FailRate: 1}})
	p.types(t, exitOK, "pool", "set", "fails", "--max-concurrency", "4")
	p.types(t, exitOK, "gateway", "add", "gw-f", "--url", sim.URL(), "--token-file", secretIn(t, "t"), "--pool", "fails", "--wait")
	fails := func() result {
		return p.types(t, exitFailed, "task", "submit", "--message", "x", "--pool", "fails", "--max-attempts", "1", "--wait")
	}
	said, again := fails().err, fails().err
	doctor := p.says(t, "doctor").err
	wantPrinted(t, p.follow(t, "LookAtDeadLetters", 0, doctor), "dead_letter +.*gw-f|gw-f.*dead_letter", "run_failed|provider|failed")
	if err := sim.SetFaults(openclawtest.Faults{}); err != nil {
		t.Fatal(err)
	}
	one := p.line(t, stepAt{"ReplayTask", 0}, said, nil)
	p.types(t, exitOK, one...)
	p.until(t, "state +succeeded", "task", "show", one[len(one)-1])
	other := p.find(t, "ReplayTask", again)
	p.follow(t, "LookAtDeadLetters", 1, doctor)
	p.until(t, "state +succeeded", "task", "show", strings.Fields(other[0])[3])

	p.types(t, exitOK, "gateway", "remove", "gw-f")

	id := submitNext(t, p, "--delay", "1h")
	p.types(t, exitOK, "task", "cancel", id)
	said = p.types(t, exitFailed, "task", "logs", id).err
	wantPrinted(t, p.follow(t, "ShowTask", 0, said), "state +cancelled")
}

func followIDs(t *testing.T, p *person) {
	id := strings.TrimSpace(p.types(t, exitOK, "task", "submit", "--message", "x", "--wait", "-o", "name").out)
	end := id[len(id)-8:]
	said := p.types(t, exitNotFound, "task", "cancel", end).err
	wantPrinted(t, p.follow(t, "ShowsWhatItIs", 0, said), id, "succeeded")
	said = p.types(t, exitNotFound, "task", "show", "ffffffff").err
	wantPrinted(t, p.follow(t, "GiveWholeID", 0, said), "(?m)^"+id+"$")
	// A stream that broke for good: the run can be watched again.
	wantPrinted(t, p.follow(t, "AttachAgain", 0, p.fill("AttachAgain", id)), "ECHO")

	// The lists that are named where an id is wrong or unknown, or where nobody
	// knows whether something was done.
	p.types(t, exitOK, "session", "create", "s-1")
	p.types(t, exitOK, "user", "create", "ann@example.org", "--role", "viewer", "--password-file", secretIn(t, "correct horse battery"))
	holds := map[string]string{
		"task": id, "session": "s-1", "gateway": "sim-0", "pool": "default", "user": "ann@example.org", "tenant": "default",
		"key": strings.Split(p.node.key, "_")[1], "node": "working|active|yes",
	}
	for _, noun := range nouns {
		for _, name := range []string{"ListIDs", "ListThem", "LookFirst"} {
			wantPrinted(t, p.follow(t, name, 0, p.fill(name, noun)), holds[noun])
		}
	}
	for name, thing := range map[string]string{"LookAtTaskFirst": id, "LookAtSessionFirst": "s-1", "LookAtGatewayFirst": "sim-0", "LookAtPoolFirst": "default"} {
		wantPrinted(t, p.follow(t, name, 0, p.fill(name, thing)), thing)
	}
	for _, noun := range []string{"task", "session", "gateway"} {
		p.follow(t, "ListIDs", 0, p.types(t, exitUsage, noun, "show", "a b").err)
	}
	for _, args := range [][]string{{"session", "show", "gone"}, {"gateway", "show", "gone"}, {"pool", "show", "gone"}, {"key", "revoke", "gone"}, {"task", "show", longID + "0"}} {
		p.follow(t, "ListThem", 0, p.types(t, exitNotFound, args...).err)
	}
}

// followNode: what is said about a node that does not answer, or is not the one that works.
func followNode(t *testing.T, p *person) {
	f := newFake(t)
	f.patience = 100 * time.Millisecond
	f.mux.HandleFunc("GET /api/v1/tasks", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	f.answer("GET /api/v1/gateways", http.StatusOK, 7)
	said := f.dash(t.Context(), "", "task", "list").err
	wantPrinted(t, p.follow(t, "Doctor", 0, said), "node +ok")
	p.follow(t, "TryAgainIfItLasts", 0, p.fill("TryAgainIfItLasts"))
	p.follow(t, "DoctorForOthers", 0, p.fill("DoctorForOthers"))

	said = f.dash(t.Context(), "", "gateway", "list").err
	printed := p.follow(t, "CompareVersions", 0, said).out
	wantPrinted(t, p.follow(t, "CompareVersions", 1, said), "version "+regexp.QuoteMeta(strings.Fields(printed)[1]))

	for _, name := range []string{"AskWorkingNode", "AskThatNode", "StopNodesFirst", "StopNodesOrOtherStore", "NameLivingNode"} {
		listed := p.follow(t, name, 0, p.fill(name))
		address := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(listed.out)
		there := &person{advised: p.advised, node: &drillNode{url: "http://" + address, key: p.node.key, keyFile: p.node.keyFile}}
		there.types(t, exitOK, "node", "list")
	}
}
