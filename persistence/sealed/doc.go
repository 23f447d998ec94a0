// Package sealed keeps the secrets of gateways encrypted in every engine and
// archive. It stands between the repositories and whoever reads them, so that no
// engine knows of it; DESIGN.md says what it protects from, and from what not.
package sealed
