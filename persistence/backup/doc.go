// Package backup writes snapshots of any storage engine into archives and
// restores them into an empty store. An archive is logical: it holds rows, not
// pages, so one made on an engine can be restored on another.
//
// What has its final file name is whole: it was written under another name,
// forced to disk, read back, and only then renamed. Restore decodes an archive
// to its end and compares checksum and counts before it changes the store, and
// compares the counts of the store with those of the archive afterwards.
//
// The package starts no goroutines that outlive a call.
package backup
