package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dash-fleet/dash/messages"
	"github.com/dash-fleet/dash/messages/next"
)

// maxSimGateways bounds what one process simulates; 200 is the largest fleet
// the soak profiles ask for.
const maxSimGateways = 1000

// maxTenantRateLimit is a million requests per second; the rule of package
// ratelimit counts in microseconds.
const maxTenantRateLimit = 60_000_000

func invalid(key, what, next string) *messages.Error {
	e := &messages.Error{Code: messages.CodeInvalid, Message: what, NextStep: next}
	if key != "" {
		e.Fields = []messages.FieldError{{Pointer: "/" + key, Detail: what}}
	}
	return e
}

// Validate checks what can be checked without touching the network or the disk.
func (c Config) Validate() error {
	for _, check := range []func() *messages.Error{c.checkServer, c.checkStore, c.checkBackup, c.checkNode, c.checkOpenClaw, c.checkLog} {
		if e := check(); e != nil {
			return e
		}
	}
	return nil
}

func (c Config) checkServer() *messages.Error {
	if _, port, err := net.SplitHostPort(c.Listen); err != nil || !validPort(port) {
		return invalid("listen", fmt.Sprintf("listen: %q is not an address", c.Listen), next.GiveHostPort)
	}
	if c.PprofListen != "" {
		host, port, err := net.SplitHostPort(c.PprofListen)
		if ip := net.ParseIP(host); err != nil || !validPort(port) || ip == nil || !ip.IsLoopback() {
			return invalid("pprof-listen", fmt.Sprintf("pprof-listen: %q is not a loopback address with a port", c.PprofListen), next.GiveLoopback)
		}
	}
	if _, err := c.Traces(); err != nil {
		return invalid("otel-endpoint", "otel-endpoint: "+err.Error(), next.GiveCollector)
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return invalid("tls-cert", "tls-cert and tls-key go together, but only one is set", next.BothOrNone)
	}
	if _, err := c.Public(); err != nil {
		return invalid("public-url", "public-url: "+err.Error(), next.GivePublicURL)
	}
	return nil
}

// Traces is where below OTelEndpoint traces go: its path v1/traces, as
// OTEL_EXPORTER_OTLP_ENDPOINT is understood. Empty: nowhere.
func (c Config) Traces() (string, error) {
	if c.OTelEndpoint == "" {
		return "", nil
	}
	u, err := url.Parse(c.OTelEndpoint)
	switch {
	case err != nil:
		return "", errors.New("it is not a URL")
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "":
		return "", errors.New("it is not the http or https URL of a collector")
	case u.User != nil: // it would be in the log
		return "", errors.New("a password does not belong into it")
	case strings.HasSuffix(u.Path, "/v1/traces"):
		return u.String(), nil
	}
	return u.JoinPath("v1", "traces").String(), nil
}

// Public is PublicURL as links begin with it: without a slash at its end, and
// without the prefix of the API, which people copy along. Empty: there is none.
func (c Config) Public() (string, error) {
	if c.PublicURL == "" {
		return "", nil
	}
	u, err := url.Parse(c.PublicURL)
	switch {
	case err != nil:
		return "", errors.New("it is not a URL")
	case u.Scheme != "http" && u.Scheme != "https" || u.Opaque != "":
		return "", errors.New("it does not begin with http:// or https://")
	case u.Hostname() == "" || strings.ContainsAny(u.Host, "\"'`<>(){}|\\^,; "):
		return "", errors.New("it names no host")
	case strings.HasSuffix(u.Host, ":") || u.Port() != "" && !validPort(u.Port()):
		return "", errors.New("it names no port behind the colon")
	case u.User != nil:
		return "", errors.New("it holds a user or a password, which every answer would show")
	case strings.ContainsAny(c.PublicURL, "?#"):
		return "", errors.New("it has a query or a fragment, and paths are put behind it")
	}
	p := strings.TrimSuffix(strings.TrimRight(u.EscapedPath(), "/"), "/api/v1")
	if plain := strings.TrimRight(u.Path, "/"); p != "" && path.Clean(p) != p || plain != "" && path.Clean(plain) != plain {
		return "", fmt.Errorf("its path %q has empty or dotted parts", p)
	}
	return u.Scheme + "://" + u.Host + p, nil
}

func validPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

func (c Config) checkStore() *messages.Error {
	switch c.Store {
	case EngineSQLite:
	case EnginePostgres:
		if e := checkURL("postgres-url", c.PostgresURL, c.Store, postgresExample, "postgres", "postgresql"); e != nil {
			return e
		}
	case EngineRedis:
		if c.RedisURL.Empty() {
			return checkURL("redis-url", c.RedisURL, c.Store, redisExample)
		}
		// Redis holds the queue; accounts, configuration and history stay here.
		if e := checkURL("postgres-url", c.PostgresURL, c.Store, postgresExample, "postgres", "postgresql"); e != nil {
			return e
		}
	default:
		return invalid("store", fmt.Sprintf("store: there is no engine %q", c.Store), next.UseStore)
	}
	if !c.RedisURL.Empty() { // any engine: it also counts and spreads events
		if e := checkURL("redis-url", c.RedisURL, c.Store, redisExample, "redis", "rediss", "unix"); e != nil {
			return e
		}
	}
	if c.RedisAcceptLoss < 0 || c.RedisAcceptLoss > time.Hour {
		return invalid("redis-accept-loss", fmt.Sprintf("redis-accept-loss: %s is out of range", c.RedisAcceptLoss), next.GiveLossWindow)
	}
	if c.Data == "" && !c.Dev {
		return invalid("data", "data: no folder is set, and neither HOME nor XDG_DATA_HOME says where to put one", next.GiveDataFolder)
	}
	return c.checkRetention()
}

func (c Config) checkRetention() *messages.Error {
	for _, r := range []struct {
		key, next string
		value     time.Duration
	}{
		{"retention", next.GiveRetention, c.Retention},
		{"session-retention", next.GiveSessionRetention, c.SessionRetention},
		{"session-idle", next.GiveSessionIdle, c.SessionIdle},
	} {
		if r.value != 0 && r.value < time.Minute {
			return invalid(r.key, fmt.Sprintf("%s: %s is too short", r.key, r.value), r.next)
		}
	}
	return nil
}

const (
	postgresExample = "postgres://dash@127.0.0.1:5432/dash"
	redisExample    = "redis://127.0.0.1:6379/0"
)

// checkURL never repeats the value: it may hold a password.
func checkURL(key string, value messages.Secret, engine, example string, schemes ...string) *messages.Error {
	if value.Empty() {
		return invalid(key, fmt.Sprintf("%s: is not set, and the engine %s needs it", key, engine),
			fmt.Sprintf(next.GiveStoreURL, key, example, EnvName(key)))
	}
	scheme, _, found := strings.Cut(value.Reveal(), "://")
	if !found || !slices.Contains(schemes, scheme) {
		return invalid(key, fmt.Sprintf("%s: is not a URL that begins with %s://", key, schemes[0]), fmt.Sprintf(next.WriteItLike, example))
	}
	return nil
}

// Bounds of scheduled backups: more than daily files over ten years are no
// plan, and an interval below a minute leaves no time for anything else.
const (
	minBackupEvery = time.Minute
	maxBackupEvery = 31 * 24 * time.Hour
	maxBackupKeep  = 10_000
)

func (c Config) checkBackup() *messages.Error {
	if c.BackupEvery != 0 && (c.BackupEvery < minBackupEvery || c.BackupEvery > maxBackupEvery) {
		return invalid("backup-every", fmt.Sprintf("backup-every: %s is out of range", c.BackupEvery), fmt.Sprintf(next.GiveRangeOrNone, minBackupEvery, maxBackupEvery))
	}
	if c.BackupKeep < 1 || c.BackupKeep > maxBackupKeep {
		return invalid("backup-keep", fmt.Sprintf("backup-keep: %d is out of range", c.BackupKeep), fmt.Sprintf(next.GiveFromOne, maxBackupKeep))
	}
	for _, k := range c.BackupEncryptTo {
		if !strings.HasPrefix(k, "age1") {
			return invalid("backup-encrypt-to", "backup-encrypt-to: what is given is not a public key of age", next.GiveAgeKey)
		}
	}
	if c.Dev && c.BackupEvery > 0 && c.Data == "" && c.BackupDir == "" {
		return invalid("backup-dir", "backup-dir: the data folder of --dev is removed at the end, and backups in it too", next.GiveBackupDir)
	}
	return nil
}

func (c Config) checkNode() *messages.Error {
	if err := messages.CheckID(c.Node); err != nil {
		return invalid("node", fmt.Sprintf("node: %q is not a valid name: %v", c.Node, err), next.GiveNodeName)
	}
	if c.Region != "" && messages.CheckID(c.Region) != nil {
		return invalid("region", fmt.Sprintf("region: %q is not a valid name: %v", c.Region, messages.ErrBadID), next.GiveRegion)
	}
	if _, err := c.Networks(); err != nil {
		return invalid("gateway-networks", "gateway-networks: "+err.Error(), next.GiveNetworks)
	}
	if _, err := c.Proxies(); err != nil {
		return invalid("trusted-proxies", "trusted-proxies: "+err.Error(), next.GiveNetworks)
	}
	if c.TenantRateLimit < 0 || c.TenantRateLimit > maxTenantRateLimit {
		return invalid("tenant-rate-limit", fmt.Sprintf("tenant-rate-limit: %d is out of range", c.TenantRateLimit), fmt.Sprintf(next.GiveFromZero, maxTenantRateLimit))
	}
	if c.SimGateways < 0 || c.SimGateways > maxSimGateways {
		return invalid("sim-gateways", fmt.Sprintf("sim-gateways: %d is out of range", c.SimGateways), fmt.Sprintf(next.GiveFromZero, maxSimGateways))
	}
	return nil
}

// Networks parses GatewayNetworks.
func (c Config) Networks() ([]netip.Prefix, error) { return networks(c.GatewayNetworks) }

// Proxies parses TrustedProxies.
func (c Config) Proxies() ([]netip.Prefix, error) { return networks(c.TrustedProxies) }

func networks(list []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, text := range list {
		for one := range strings.SplitSeq(text, ",") {
			if one = strings.TrimSpace(one); one == "" {
				continue
			}
			p, err := netip.ParsePrefix(one)
			if err != nil {
				return nil, fmt.Errorf("%q is not a network", one)
			}
			all = append(all, p.Masked())
		}
	}
	return all, nil
}

func (c Config) checkOpenClaw() *messages.Error {
	if len(c.OpenClawCommand) > 0 && !filepath.IsAbs(c.OpenClawCommand[0]) {
		return invalid("openclaw-command", fmt.Sprintf("openclaw-command: %q is not an absolute path, so it would depend on PATH and on the working folder", c.OpenClawCommand[0]),
			next.GiveProgramPath)
	}
	for _, command := range c.ManagedCommands {
		if !filepath.IsAbs(command[0]) {
			return invalid("managed-commands", fmt.Sprintf("managed-commands: %q is not an absolute path, so it would depend on PATH and on the working folder", command[0]), next.GiveWholeCommands)
		}
	}
	for _, d := range []struct {
		key         string
		value       time.Duration
		least, most time.Duration
	}{
		{"openclaw-startup-timeout", c.OpenClawStartupTimeout, time.Second, time.Hour},
		{"openclaw-probe-interval", c.OpenClawProbeInterval, 100 * time.Millisecond, 10 * time.Minute},
		{"openclaw-retry-window", c.OpenClawRetryWindow, time.Second, 24 * time.Hour},
	} {
		if d.value < d.least || d.value > d.most {
			return invalid(d.key, fmt.Sprintf("%s: %s is out of range", d.key, d.value), fmt.Sprintf(next.GiveRange, d.least, d.most))
		}
	}
	return nil
}

// LogLevels are the values of log-level.
func LogLevels() []string { return []string{"debug", "info", "warn", "error"} }

func (c Config) checkLog() *messages.Error {
	if !slices.Contains(LogLevels(), c.LogLevel) {
		return invalid("log-level", fmt.Sprintf("log-level: there is no level %q", c.LogLevel), next.UseLogLevel)
	}
	if formats := []string{LogAuto, LogText, LogJSON}; !slices.Contains(formats, c.LogFormat) {
		return invalid("log-format", fmt.Sprintf("log-format: there is no format %q", c.LogFormat), next.UseLogFormat)
	}
	return nil
}

// suggest names the setting that key may have been meant to be.
func suggest(key string) string {
	best, least := "", 4 // farther than three edits is no typing error
	for _, s := range settings() {
		if d := Distance(key, s.key); d < least {
			best, least = s.key, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", best)
}

// Distance is the number of single-character edits between a and b.
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
