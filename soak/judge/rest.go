package judge

import "github.com/dash-fleet/dash/http/api"

// checkRest: what the API counts is what the tasks say. It holds at rest, when
// nothing changed between the reads.
func (c *court) checkRest() {
	type place struct {
		pool  string
		class api.Priority
	}
	depth, running := map[place]int{}, map[place]int{}
	load := map[string]int{}
	for i := range c.h.Tasks {
		t := &c.h.Tasks[i]
		p := place{t.Pool, t.Priority}
		switch {
		case t.State == api.TaskStateQueued:
			depth[p]++
		case atGateway(string(t.State)):
			running[p]++
			load[value(t.Gateway)]++
		}
	}
	for _, q := range c.h.Queue {
		p := place{q.Pool, q.Class}
		if q.Depth != depth[p] {
			c.find(RuleRest, q.Pool+"/"+string(q.Class), 0, "depth says %d, %d tasks are queued", q.Depth, depth[p])
		}
		if q.Running != running[p] {
			c.find(RuleRest, q.Pool+"/"+string(q.Class), 0, "running says %d, %d tasks are at gateways", q.Running, running[p])
		}
	}
	for _, g := range c.h.Gateways {
		if g.Running != load[g.Id] {
			c.find(RuleRest, g.Id, 0, "the gateway says %d runs, %d tasks are there", g.Running, load[g.Id])
		}
	}
}
