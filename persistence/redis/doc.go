// Package redis keeps the fenced half of the store in one Redis server.
//
// A batch is one script call: fences, compares and writes are atomic, and the
// answer is sent once the server has made them durable (AOF with
// `appendfsync always`; Open refuses anything less unless the loss is
// accepted by name). The package notices when the server came back with less
// than it had acknowledged, refuses further writes with a *LossError, and
// rebuilds what the task history knows.
//
// A DB owns two goroutines, which Close ends: the monitor, which reads the
// server's durability settings, and the drainer, which moves accepted and
// finished tasks from the outbox to the History. Repositories are not here:
// they stay in PostgreSQL.
package redis
