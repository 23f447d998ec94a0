// Package actors is the root of a node's supervision tree. The tree:
//
//	root                     a failure here ends the process
//	 ├─ committer            unlimited restarts; what waits is answered with an error
//	 └─ shard-<n>            of one epoch; lost or failed, it stops with all below it, and nothing else
//	     ├─ pool-<id>        a group (arbiter and class dispatchers), 5 in 60 s, then the process ends
//	     └─ gateway-<id>     0.5 to 30 s, 10 in 10 min, then QUARANTINED
//	         └─ session-<n>  0.5 to 30 s, 5 in 10 min, then PARKED
//
// Any actor can be thrown away and rebuilt from the store: a node that lost
// its tree, or its life, loses no accepted task.
package actors
