// Package config is the configuration of a Dash node: one plain struct, its
// defaults, and the loader that merges them with a YAML file, the environment
// (DASH_…) and command line flags. Flags win over the environment, which wins
// over the file, which wins over the defaults.
//
// Every setting has one name. It is the flag without its dashes, the key in the
// file (underscores are accepted in place of hyphens), and, in upper case with
// underscores and the prefix DASH_, the variable in the environment. Keys that
// no setting has are refused in a file and reported as warnings in the
// environment, where other programs' variables may share the prefix.
package config

import (
	"time"

	"github.com/dash-fleet/dash/messages"
)

// Config is what one node is told. Paths are taken as given: relative ones are
// relative to the working folder of the process.
type Config struct {
	// Dev turns a node into a playground: data in a temporary folder unless
	// Data is set, three simulated gateways unless SimGateways is set, metrics
	// without a key unless MetricsPublic is set.
	Dev bool `key:"dev" help:"playground: data in a temporary folder unless --data, simulated gateways, key printed"`

	// Listen is the address of the API, as host:port.
	Listen string `key:"listen" help:"API address, host:port"`
	// TLSCert and TLSKey are PEM files; both or neither.
	TLSCert string `key:"tls-cert" help:"PEM file with the certificate chain of the API; needs --tls-key"`
	TLSKey  string `key:"tls-key" help:"PEM file with the private key of --tls-cert"`
	// PublicURL is where clients reach this API; see Public.
	PublicURL string `key:"public-url" help:"address at which clients reach this API through a proxy, such as https://host/dash: links in answers begin with it. The proxy strips the path (/dash)"`
	// TrustedProxies are the networks of proxies in front of the API, as CIDR;
	// see Proxies.
	TrustedProxies []string `key:"trusted-proxies" help:"networks of the proxies in front of the API, such as 10.0.0.0/8: only their X-Forwarded-For is trusted"`
	// PprofListen is an address on this machine that serves profiles; see checkPprof.
	PprofListen string `key:"pprof-listen" help:"loopback address that serves Go's profiles at /debug/pprof/, without a key; empty: off"`
	// TenantRateLimit bounds the requests of all keys of a tenant; 0 does not.
	TenantRateLimit int `key:"tenant-rate-limit" help:"requests per minute of all keys of a tenant together, besides the limit of each key; 0: no limit. Counted across all nodes if they share a Redis server"`
	// OTelEndpoint is an OpenTelemetry collector that is told of tasks; see Traces.
	OTelEndpoint string `key:"otel-endpoint" help:"URL of an OpenTelemetry collector (OTLP over HTTP), such as http://127.0.0.1:4318, that gets a trace of each task; empty: none. OTEL_EXPORTER_OTLP_HEADERS may hold its credential"`
	// MetricsPublic serves /metrics without a credential.
	MetricsPublic bool `key:"metrics-public" help:"serve /metrics without an API key"`

	// Data is the folder of the embedded store and of managed gateways. It is
	// empty only with Dev, and then means a temporary folder.
	Data string `key:"data" help:"folder of the embedded store and of managed gateways (default ~/.local/share/dash)"`
	// Store is the storage engine: the constants Engine….
	Store string `key:"store" help:"storage engine: sqlite (embedded), postgres, or redis (queue in Redis, accounts and history in PostgreSQL)"`
	// PostgresURL is needed by the engines postgres and redis.
	PostgresURL messages.Secret `key:"postgres-url" help:"database of --store postgres and redis, as postgres://user:password@host:5432/name; several hosts as host1:5432,host2:5432. The database must exist"`
	// RedisURL is needed by the engine redis. With any engine the server also
	// counts the requests of keys for all nodes and spreads events.
	RedisURL messages.Secret `key:"redis-url" help:"server of --store redis, as redis://user:password@host:6379/0 (rediss:// for TLS). With any --store rate limits then hold across all nodes; with sqlite and postgres requests succeed without it"`
	// RedisAcceptLoss is the time of accepted work that may be lost with a Redis
	// server that is not set to appendfsync always; 0 refuses such a server.
	RedisAcceptLoss time.Duration `key:"redis-accept-loss" help:"run on a Redis server that may lose up to this much accepted work in a crash, and report it on /health; 0 rejects such a server"`
	// PostgresAcceptLoss works with a PostgreSQL server without fsync or
	// full_page_writes, which may lose any accepted work in a crash.
	PostgresAcceptLoss bool `key:"postgres-accept-loss" help:"run on a PostgreSQL server whose fsync or full_page_writes is off, which may lose accepted work in a crash, and report it on /health; without it such a server is rejected"`
	// Retention is how long finished tasks are kept; 0 keeps them for ever.
	Retention time.Duration `key:"retention" help:"how long finished tasks are kept; 0 keeps them for ever"`
	// SessionRetention is how long closed sessions are kept; 0 keeps them for
	// ever. Their tasks and results go by Retention, what the audit log says stays.
	SessionRetention time.Duration `key:"session-retention" help:"how long closed sessions are kept; 0 keeps them for ever. A removed session's id is free for a new one, which knows nothing of the old one"`
	// SessionIdle is after how long without use an open session is closed.
	SessionIdle time.Duration `key:"session-idle" help:"close sessions that have no open task and were not used for this long; 0 never closes them"`
	// BackupEvery is the interval of backups of the store; 0 makes none.
	BackupEvery time.Duration `key:"backup-every" help:"back the store up this often, for example 4h; 0: no scheduled backups. Of several nodes the active one makes them"`
	// BackupKeep is how many of them are kept.
	BackupKeep int `key:"backup-keep" help:"how many scheduled backups are kept"`
	// BackupDir is their folder; empty means backups in Data.
	BackupDir string `key:"backup-dir" help:"folder of scheduled backups, better on another disk (default <data>/backups)"`
	// BackupEncryptTo are public keys of age; empty leaves backups readable for
	// whoever has the file.
	BackupEncryptTo []string `key:"backup-encrypt-to" help:"public keys of age (age1…) that scheduled backups are encrypted to"`
	// AdminKeyFile receives the API key made at the first start, mode 0600.
	// Empty means admin.key in Data; see KeyFile.
	AdminKeyFile string `key:"admin-key-file" help:"file that receives the API key made at the first start (default <data>/admin.key)"`
	// SecretKeyFile seals the gateways' secrets in the store and signs archives;
	// see SecretKeyPath.
	SecretKeyFile string `key:"secret-key-file" help:"file with the keys that encrypt the gateways' secrets in the store and sign backups, one per line, 32 bytes in base64; the first encrypts, all decrypt. The same on all nodes of a store. With --store sqlite it is created when missing (default <data>/secret.key); without it the other stores hold the secrets in the clear"`

	// Node is the node's name: the home of gateways on loopback addresses.
	Node string `key:"node" help:"name of this node (default the host's name)"`
	// Region is where the node is; tasks and gateways may ask for one.
	Region string `key:"region" help:"region of this node"`

	// GatewayNetworks are the networks outside of this machine that gateways may
	// be in, as CIDR; none: gateways are on this machine only. See Networks.
	GatewayNetworks []string `key:"gateway-networks" help:"networks that gateways may be in besides this machine, such as 10.1.0.0/16"`

	// SimGateways starts that many simulated gateways inside this process.
	SimGateways int `key:"sim-gateways" help:"simulated gateways to start in this process (development and tests)"`

	// OpenClawAutoStart starts managed gateways that are not running.
	OpenClawAutoStart bool `key:"openclaw-auto-start" help:"start managed gateways whose process is missing"`
	// OpenClawCommand is the program and its arguments for managed gateways
	// that name none; the program is an absolute path.
	OpenClawCommand []string `key:"openclaw-command" help:"program (absolute path) and arguments that start a managed gateway"`
	// ManagedCommands are what a gateway may name as its command besides
	// OpenClawCommand, each whole: a gateway's command runs as the node's user.
	ManagedCommands Commands `key:"managed-commands" help:"whole commands that a managed gateway may use in place of the node's own, separated by a semicolon; repeatable. None: only the node's own"`
	// OpenClawStartupTimeout is how long a gateway may take from its start to
	// answering. Boots measured on two busy cores took up to 90 s.
	OpenClawStartupTimeout time.Duration `key:"openclaw-startup-timeout" help:"how long a managed gateway may take to become ready"`
	// OpenClawProbeInterval is the pause between two looks at a gateway process.
	OpenClawProbeInterval time.Duration `key:"openclaw-probe-interval" help:"pause between two checks of a managed gateway's process"`
	// OpenClawRetryWindow is the span in which failed starts are counted: a
	// gateway that uses up its restarts inside it is quarantined.
	OpenClawRetryWindow time.Duration `key:"openclaw-retry-window" help:"period in which restarts are counted before a gateway is quarantined"`
	// OpenClawProbeNames looks for openclaws, openclaw and openclawd on PATH
	// when no command is set. It is off by default: a program found by name is
	// not necessarily the one meant.
	OpenClawProbeNames bool `key:"openclaw-probe-names" help:"without a command look for openclaws, openclaw, openclawd on PATH"`

	// LogLevel is debug, info, warn or error.
	LogLevel string `key:"log-level" help:"lowest level that is logged: debug, info, warn, error"`
	// LogFormat is auto (text on a terminal, JSON elsewhere), text or json.
	LogFormat string `key:"log-format" help:"auto (text on a terminal, json elsewhere), text or json"`
}

// Values of Config.LogFormat.
const (
	LogAuto = "auto"
	LogText = "text"
	LogJSON = "json"
)

// Values of Config.Store: the embedded engine, and those that nodes can share.
const (
	EngineSQLite   = "sqlite"
	EnginePostgres = "postgres"
	EngineRedis    = "redis"
)

// devSimGateways is how many simulated gateways --dev starts.
const devSimGateways = 3

// Default returns the configuration of a node that is told nothing. Node and
// Data depend on the host and are filled in by Load.
func Default() Config {
	return Config{
		Listen:                 "127.0.0.1:7373",
		Store:                  EngineSQLite,
		Retention:              7 * 24 * time.Hour,
		SessionRetention:       30 * 24 * time.Hour,
		BackupKeep:             12,
		OpenClawStartupTimeout: 3 * time.Minute,
		OpenClawProbeInterval:  5 * time.Second,
		OpenClawRetryWindow:    10 * time.Minute,
		LogLevel:               "info",
		LogFormat:              LogAuto,
	}
}
