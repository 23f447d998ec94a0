package main

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/dash-fleet/dash/actors/gateway"
	"github.com/dash-fleet/dash/actors/openclaw"
	"github.com/dash-fleet/dash/messages"
)

// instant is a gateway that accepts and finishes every run at once, without a
// socket: what is measured is Dash alone.
type instant struct {
	b    *bench
	boot string
	done chan struct{}
	once sync.Once
}

func (b *bench) dial(context.Context, openclaw.Config, openclaw.Handler) (gateway.Link, error) {
	return &instant{b: b, boot: messages.NewID(), done: make(chan struct{})}, nil
}

func (g *instant) Hello() *openclaw.Hello {
	return &openclaw.Hello{BootID: g.boot, Version: "2026.9.6", Protocol: 4}
}
func (g *instant) Done() <-chan struct{} { return g.done }
func (g *instant) Err() error            { return openclaw.ErrClosed }
func (g *instant) Close()                { g.once.Do(func() { close(g.done) }) }

func (g *instant) Agent(r openclaw.AgentRequest, on func(openclaw.AgentAnswer)) error {
	g.b.started(r.Message)
	on(openclaw.AgentAnswer{Kind: openclaw.AnswerAccepted, RunID: r.RunID})
	on(openclaw.AgentAnswer{Kind: openclaw.AnswerFinal, RunID: r.RunID, Text: "done", Usage: &openclaw.Usage{Input: 1, Output: 1}})
	return nil
}

// started notes the start of a task whose text says when it was submitted.
func (b *bench) started(text string) {
	now := time.Now()
	select {
	case b.frames <- now:
	default:
	}
	if b.mode != "latency" {
		return
	}
	sent, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.took = append(b.took, time.Duration(now.UnixNano()-sent))
}

func (g *instant) Wait(_ context.Context, run string, _ time.Duration) (openclaw.RunStatus, error) {
	return openclaw.RunStatus{RunID: run, Status: "timeout"}, nil
}
func (g *instant) History(context.Context, string, int) (openclaw.History, error) {
	return openclaw.History{}, nil
}
func (g *instant) Session(context.Context, string) (openclaw.Session, bool, error) {
	return openclaw.Session{}, false, nil
}
func (g *instant) Sessions(context.Context, openclaw.SessionQuery) (openclaw.SessionPage, error) {
	return openclaw.SessionPage{}, nil
}
func (g *instant) AbortSession(context.Context, string, string, bool) (openclaw.Aborted, error) {
	return openclaw.Aborted{}, nil
}
func (g *instant) SubAgents(context.Context, string) (openclaw.SubAgents, error) {
	return openclaw.SubAgents{}, nil
}

func (g *instant) DeleteSession(context.Context, string) (bool, error) { return true, nil }
func (g *instant) Teardown(context.Context, openclaw.TeardownRequest) openclaw.TeardownReport {
	return openclaw.TeardownReport{Stopped: true}
}
func (g *instant) ConfigState(context.Context) (openclaw.ConfigState, error) {
	return openclaw.ConfigState{}, nil
}
func (g *instant) SystemInfo(context.Context) (openclaw.SystemInfo, error) {
	return openclaw.SystemInfo{}, nil
}
func (g *instant) Lanes(context.Context) ([]openclaw.Lane, error) { return nil, nil }
