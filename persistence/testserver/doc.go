// Package testserver gives tests, the soak harness and the comparison a real
// PostgreSQL or Redis: private servers on free loopback ports, in folders of
// their own, that can be stopped, killed, paused and started again.
//
// Where a server comes from, first found first taken:
//
//  1. DASH_TEST_POSTGRES_URL or DASH_TEST_REDIS_URL names a running one. Each
//     test gets a database of its own there. A test that restarts its server
//     needs a private one and goes on to 2.
//  2. Installed programs: the folder DASH_TEST_POSTGRES_BIN or
//     DASH_TEST_REDIS_BIN and nothing else when set, otherwise PATH and the
//     usual folders of distributions.
//  3. Docker, when its daemon answers; the image is postgres:17 or redis:7.
//
// (.ci/need, which make test calls first, installs them from apt when it runs
// as root.) Where nothing is found, errors are a *MissingError, and a test
// fails with "infrastructure missing: …", which is no verdict on the code.
//
// Guarantees: a server is ready when its constructor returns. It is durable:
// fsync and synchronous_commit on, AOF with appendfsync always, unless the
// options say otherwise. It refuses connections without its random password.
// It ends, and its folder goes, when it is closed and also when the process
// that started it dies in any way: a shell that waits for the end of a pipe
// sees to it. PostgreSQL refuses to run as root; for root, servers run as the
// user postgres or nobody.
//
// A server has no goroutines; a Proxy has, until it is closed. Methods may be
// called from several goroutines. What takes a context gives up when it ends.
package testserver
