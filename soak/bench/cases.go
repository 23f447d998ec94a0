package main

import (
	"fmt"
	"strconv"
)

// Values of row.store: how durable an answered enqueue, claim and end is.
const (
	redisAlways   = "redis always"   // appendfsync always
	redisEverysec = "redis everysec" // up to a second may be lost
	postgresOn    = "postgres on"    // synchronous_commit on
	sqliteFull    = "sqlite full"    // synchronous FULL, Dash only
)

// row is what systems are compared in.
type row struct {
	mode      string // throughput, latency, load
	store     string
	producers int
}

func (r row) String() string {
	return fmt.Sprintf("%s %s %d", r.mode, r.store, r.producers)
}

// system is a contender with its settings.
type system struct {
	name   string
	dash   bool
	stores []string
	args   []string
	quick  []string // settings for latency, when the best for throughput are others
}

// systems and the settings that were found best on two cores; README.md tells
// how they were searched.
var systems = []system{
	{name: "asynq defaults", stores: []string{redisAlways, redisEverysec}, args: []string{"asynq"}},
	{name: "asynq best", stores: []string{redisAlways, redisEverysec},
		args:  []string{"asynq", "--servers", "8", "--concurrency", "256", "--check", "1ms", "--pool", "128"},
		quick: []string{"asynq", "--servers", "1", "--concurrency", "64", "--check", "1ms", "--pool", "128"}},
	{name: "River defaults", stores: []string{postgresOn}, args: []string{"river"}},
	{name: "River best", stores: []string{postgresOn},
		args:  []string{"river", "--workers", "100", "--cooldown", "20ms", "--poll", "50ms", "--conns", "16"},
		quick: []string{"river", "--workers", "100", "--cooldown", "1ms", "--poll", "50ms", "--conns", "16"}},
	{name: "Dash", dash: true, stores: []string{redisAlways, redisEverysec, postgresOn, sqliteFull}},
}

// settings of the system for a row.
func (s system) settings(r row) []string {
	if r.mode == "latency" && s.quick != nil {
		return s.quick
	}
	return s.args
}

// rows in the order of the table.
func rows() []row {
	var all []row
	for _, store := range []string{redisAlways, redisEverysec, postgresOn, sqliteFull} {
		for _, producers := range []int{1, 64, 512} {
			all = append(all, row{mode: "throughput", store: store, producers: producers})
		}
	}
	for _, mode := range []string{"latency", "load"} {
		for _, store := range []string{redisAlways, postgresOn, sqliteFull} {
			all = append(all, row{mode: mode, store: store, producers: 512})
		}
	}
	return all
}

// args of a node that are the same for all systems.
func (r row) args(o runOptions) []string {
	args := []string{"--mode", r.mode, "--producers", strconv.Itoa(r.producers)}
	switch r.mode {
	case "throughput":
		args = append(args, "--duration", o.duration.String())
	case "latency":
		args = append(args, "--tasks", "500", "--rate", "100")
	case "load":
		args = append(args, "--tasks", strconv.Itoa(o.load))
	}
	return args
}
