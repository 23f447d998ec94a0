package main

import (
	"fmt"
	"strings"
)

// candidates are the settings among which the best of a system is searched.
// Each is a contender of its own in the rows with 64 producers.
func candidates(name string) ([]system, error) {
	var all []system
	add := func(stores []string, args ...string) {
		all = append(all, system{name: strings.Join(args, " "), stores: stores, args: args})
	}
	switch name {
	case "asynq":
		for _, servers := range []string{"1", "4", "8", "16", "32"} {
			for _, concurrency := range []string{"4", "64", "256"} {
				add([]string{redisAlways, redisEverysec}, "asynq", "--servers", servers, "--concurrency", concurrency, "--check", "1ms", "--pool", "128")
			}
		}
	case "river":
		for _, workers := range []string{"100", "1000"} {
			for _, cooldown := range []string{"1ms", "20ms", "100ms"} {
				for _, conns := range []string{"16", "32", "64"} {
					add([]string{postgresOn}, "river", "--workers", workers, "--cooldown", cooldown, "--poll", "100ms", "--conns", conns)
				}
			}
		}
	default:
		return nil, fmt.Errorf("there is nothing to search for %q: asynq or river", name)
	}
	return all, nil
}
