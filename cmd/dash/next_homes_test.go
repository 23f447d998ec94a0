package main

import (
	"path/filepath"
	"testing"

	"github.com/dash-fleet/dash/persistence/testserver"
)

// followHomes loses the data folder of a node whose store is a server's, and
// with it the home of a managed gateway. Each start has another folder.
func followHomes(t *testing.T, a *advised) {
	store := []string{"--node", "n-1", "--store", "postgres", "--postgres-url", testserver.Postgres(t).Database(t)}
	p := serveNext(t, a, store...)
	p.types(t, exitOK, "gateway", "add", "m-1", "--managed", "--env", "DASH_SIM_STARTUP=10ms", "--wait")
	lose := func() string {
		p.node.end(t)
		p.node = serveDrill(t, filepath.Join(t.TempDir(), "data"), p.node.keyFile, place{append(p.flags, "--sim-gateways", "0")})
		return p.until(t, "its home is", "gateway", "show", "m-1").out
	}
	said := lose()
	said = p.types(t, exitConflict, p.line(t, stepAt{"StartHome", 0}, said, nil)...).err // it has no folder there
	p.follow(t, "CopyFolderOrFresh", 0, said)
	p.until(t, "m-1 +ready", "gateway", "list")

	lose()
	claim := p.line(t, stepAt{"KeepDataOrClaim", 0}, p.fill("KeepDataOrClaim"), []string{"ID", "m-1"}, "--fresh")
	p.types(t, exitOK, claim...)
	p.until(t, "m-1 +ready", "gateway", "list")

	lose()
	claim = p.line(t, stepAt{"RestoreHomeFile", 0}, p.fill("RestoreHomeFile"), []string{"ID", "m-1"}, "--fresh")
	p.types(t, exitOK, claim...)
	p.until(t, "m-1 +ready", "gateway", "list")

	lose()
	p.follow(t, "FreshAtNode", 0, p.fill("FreshAtNode", "n-1", "m-1", "n-1"))
	p.until(t, "m-1 +ready", "gateway", "list")
	p.types(t, exitOK, "gateway", "remove", "m-1", "--force")
	p.node.end(t)
}
