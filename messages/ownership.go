package messages

import "time"

// Scope says what a fence protects.
type Scope uint8

// Scopes of a fence.
const (
	ShardScope Scope = iota + 1
	GatewayScope
)

// Fence names an ownership: a write that carries it counts only while Owner
// holds the shard or gateway in exactly this epoch.
type Fence struct {
	Scope Scope
	Key   string // shard number in decimal, or gateway id
	Owner string // node id
	Epoch int64
}

// Node is one Dash process as the others see it.
type Node struct {
	ID      string // name + random incarnation, never reused
	Addr    string
	Region  string
	Version string
	Sees    int // members it saw when it last renewed
	Expires time.Time
	Home    string // of its data folder; empty: that is temporary
}

// Ownership is a row of who owns what.
type Ownership struct {
	Scope Scope
	Key   string
	Owner string // empty: nobody
	Epoch int64
}
