// Package rows is what engines share of reading pages of tasks, of leaving long
// texts out of them, and of the event log's encoding, which is part of every store:
// fields are added, never changed.
package rows
