//go:build e2e

package e2e

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/evenkeel/evenkeel/e2e/rig"
)

const zabbixMap = `apiVersion: evenkeel/v1
kind: Service
metadata: {name: shop}
spec: {criticality: 1, value: {perHour: 600, currency: EUR}, dependsOn: [{ref: component/db}]}
---
apiVersion: evenkeel/v1
kind: Component
metadata: {name: db}
spec: {source: {zabbix: {matchLabels: {host: db-1, service: shop}}}}
`

// zabbixAPI is the JSON-RPC interface of a Zabbix's pages.
type zabbixAPI struct {
	t    *testing.T
	url  string
	auth any // nil before the login
}

// try calls a method, reads its result, and says what went wrong.
func (z *zabbixAPI) try(method string, params, to any) error {
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "method": method, "params": params, "auth": z.auth, "id": 1})
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(z.t.Context(), http.MethodPost, z.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json-rpc")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	var said struct {
		Result json.RawMessage
		Error  *struct{ Message, Data string }
	}
	if err := json.Unmarshal(text, &said); err != nil {
		return fmt.Errorf("%s answers %s: %s", method, answer.Status, text)
	}
	if said.Error != nil {
		return fmt.Errorf("%s: %s %s", method, said.Error.Message, said.Error.Data)
	}
	return json.Unmarshal(said.Result, to)
}

func (z *zabbixAPI) call(method string, params, to any) {
	z.t.Helper()
	if err := z.try(method, params, to); err != nil {
		z.t.Fatal(err)
	}
}

// create calls a method that creates one thing, and returns its id.
func (z *zabbixAPI) create(method, ids string, params any) string {
	z.t.Helper()
	var made map[string][]string
	z.call(method, params, &made)
	if len(made[ids]) != 1 {
		z.t.Fatalf("%s: %v", method, made)
	}
	return made[ids][0]
}

type object = map[string]any

// furnish does what the manual has an administrator do on the pages of a Zabbix: import the shipped media type and put our address and token into
// it, give a user this media, make a trigger action; and a host with an item and a trigger to try it with.
func (z *zabbixAPI) furnish(file, address, token string) {
	z.t.Helper()
	var done bool
	z.call("configuration.import", object{"format": "yaml", "source": file, "rules": object{"mediaTypes": object{"createMissing": true, "updateExisting": true}}}, &done)
	type parameter struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	var types []struct {
		ID         string `json:"mediatypeid"`
		Status     string `json:"status"`
		Parameters []parameter
	}
	z.call("mediatype.get", object{"filter": object{"name": "Evenkeel"}, "output": "extend"}, &types)
	if !done || len(types) != 1 || len(types[0].Parameters) != 11 {
		z.t.Fatalf("the import made %+v", types)
	}
	media := types[0].ID
	for i := range types[0].Parameters {
		switch p := &types[0].Parameters[i]; p.Name {
		case "token":
			p.Value = token
		case "url":
			p.Value = address
		}
	}
	var ignored any
	z.call("mediatype.update", object{"mediatypeid": media, "parameters": types[0].Parameters, "attempt_interval": "1s", "status": "0"}, &ignored)
	var users []struct {
		ID string `json:"userid"`
	}
	z.call("user.get", object{"filter": object{"username": "Admin"}, "output": []string{"userid"}}, &users)
	z.call("user.update", object{"userid": users[0].ID, "medias": []object{{"mediatypeid": media, "sendto": "evenkeel"}}}, &ignored)

	group := z.create("hostgroup.create", "groupids", object{"name": "Shop"})
	host := z.create("host.create", "hostids", object{"host": "db-1", "name": "Database one", "groups": []object{{"groupid": group}}})
	z.create("item.create", "itemids", object{"hostid": host, "name": "Queue", "key_": "queue", "type": 2, "value_type": 3, "delay": "0"})
	z.create("trigger.create", "triggerids", object{
		"description": "Queue too long on {HOST.HOST}", "expression": "last(/db-1/queue)>100", "priority": 4,
		"opdata": "The queue is {ITEM.LASTVALUE1} long", "tags": []object{{"tag": "service", "value": "shop"}},
	})
	message := object{"default_msg": 1, "mediatypeid": media}
	z.create("action.create", "actionids", object{
		"name": "Tell Evenkeel", "eventsource": 0, "esc_period": "60s",
		"filter":              object{"evaltype": 0, "conditions": []object{{"conditiontype": 0, "operator": 0, "value": group}}},
		"operations":          []object{{"operationtype": 0, "opmessage": message, "opmessage_usr": []object{{"userid": users[0].ID}}}},
		"recovery_operations": []object{{"operationtype": 11, "opmessage": object{"default_msg": 1}}},
		"update_operations":   []object{{"operationtype": 12, "opmessage": object{"default_msg": 1}}},
	})
}

// pages starts Debian's pages of a Zabbix over a database on PHP's own server, and logs in.
func pages(t *testing.T, dir, server, serverPort string) *zabbixAPI {
	t.Helper()
	root := rig.Cached(t, "monitoring/root")
	conf := filepath.Join(dir, "etc", "zabbix")
	rig.Write(t, filepath.Join(conf, "zabbix.conf.php"), fmt.Sprintf(`<?php
$DB['TYPE'] = 'POSTGRESQL';
$DB['SERVER'] = '%s';
$DB['PORT'] = '0';
$DB['DATABASE'] = 'zabbix';
$DB['USER'] = 'zabbix';
$DB['PASSWORD'] = '';
$DB['SCHEMA'] = '';
$DB['ENCRYPTION'] = false;
$DB['DOUBLE_IEEE754'] = true;
$ZBX_SERVER = '%s';
$ZBX_SERVER_PORT = '%s';
$ZBX_SERVER_NAME = '';
$IMAGE_FORMAT_DEFAULT = IMAGE_FORMAT_PNG;
`, dir, server, serverPort))
	at := rig.Free(t)
	args := []string{"-n", "-d", "extension_dir=" + filepath.Join(root, "usr/lib/php/20220829"), "-d", "memory_limit=256M", "-d", "max_execution_time=300", "-d", "post_max_size=16M"}
	for name := range strings.FieldsSeq("pgsql mbstring bcmath gd ctype gettext sockets simplexml xml xmlreader xmlwriter dom curl") {
		args = append(args, "-d", "extension="+name)
	}
	cmd := rig.Foreign(t, "usr/bin/php8.2", append(args, "-S", at, "-t", "/usr/share/zabbix")...)
	rig.StartCmd(t, rig.WithEtc(cmd, filepath.Join(dir, "etc")))
	z := &zabbixAPI{t: t, url: "http://" + at + "/api_jsonrpc.php"}
	rig.Until(t, 30*time.Second, "the pages of the Zabbix answer", func() string {
		var version string
		if err := z.try("apiinfo.version", []string{}, &version); err != nil {
			return err.Error()
		}
		t.Logf("Zabbix %s", version)
		return ""
	})
	var session string
	z.call("user.login", object{"username": "Admin", "password": "zabbix"}, &session)
	z.auth = session
	return z
}

// zabbixSend sends a value of an item to a Zabbix, as zabbix_sender does, and returns what it answers.
func zabbixSend(address, host, key, value string) (string, error) {
	body, err := json.Marshal(map[string]any{"request": "sender data", "data": []map[string]string{{"host": host, "key": key, "value": value}}})
	if err != nil {
		return "", err
	}
	c, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	head := append([]byte("ZBXD\x01"), binary.LittleEndian.AppendUint64(nil, uint64(len(body)))...)
	if _, err := c.Write(append(head, body...)); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(c)
	if err != nil || len(answer) < 13 {
		return "", fmt.Errorf("%d bytes: %w", len(answer), err)
	}
	return string(answer[13:]), nil
}

// freeLow returns a port below 32768 that nobody has now: a Zabbix takes no other.
func freeLow(t *testing.T) string {
	t.Helper()
	for n := 20_000; n < 32_000; n++ {
		port := strconv.Itoa(n)
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port below 32000 is free")
	return ""
}

// Debian's own Zabbix, its pages and its server, into which the shipped media type was imported as a person imports it: a value goes beyond the bound of a trigger, and a component, its service and an
// incident follow; it returns, and they are well.
func TestZabbix(t *testing.T) {
	dir := rig.Folder(t)
	c := rig.NewCollector(t, "127.0.0.1")
	c.Run(t)
	r := &outsideRig{t, c}
	rig.Write(t, filepath.Join(dir, "map.yaml"), zabbixMap)
	if out, errs, code := c.Evenkeel(t, "apply", "-f", filepath.Join(dir, "map.yaml")); code != 0 {
		t.Fatalf("apply: %d\n%s%s", code, out, errs)
	}
	token, _ := c.Token(t, "signaller")
	r.becomes(10*time.Second, "nothing is known", map[string]string{"component/db": "unknown"})

	// The database runs as nobody, since it refuses to run as root.
	const bin = "usr/lib/postgresql/15/bin/"
	nobody := []string{"--reuid", "65534", "--regid", "65534", "--clear-groups"}
	as := func(path string, args ...string) *rig.Process {
		cmd := rig.Foreign(t, bin+path, args...)
		for i, a := range cmd.Args { // the last words of the shell's script are the program and its own
			if strings.HasSuffix(a, bin+path) {
				cmd.Args = append(append(append([]string{}, cmd.Args[:i]...), append([]string{"setpriv"}, nobody...)...), cmd.Args[i:]...)
				break
			}
		}
		return rig.StartCmd(t, cmd)
	}
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, data} {
		if err := os.Chown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	// ended waits for a program and wants it to have done well.
	ended := func(p *rig.Process) {
		t.Helper()
		if code := p.Wait(t, 120*time.Second); code != 0 {
			t.Fatalf("exit code %d: %s", code, p.Output())
		}
	}
	ended(as("initdb", "-D", data, "--locale=C", "-E", "UTF8", "-A", "trust", "-U", "zabbix"))
	as("postgres", "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=32MB")
	psql := func(database string, args ...string) *rig.Process {
		return rig.StartCmd(t, rig.Foreign(t, bin+"psql", append([]string{"-q", "-v", "ON_ERROR_STOP=1", "-h", dir, "-U", "zabbix", database}, args...)...))
	}
	rig.Until(t, 30*time.Second, "the database is up", func() string {
		p := psql("postgres", "-c", "select 1")
		if code := p.Wait(t, 10*time.Second); code != 0 {
			return p.Output()
		}
		return ""
	})
	ended(psql("postgres", "-c", "create database zabbix"))
	share := rig.Cached(t, "monitoring/root/usr/share/zabbix-server-pgsql")
	for _, name := range []string{"schema", "images", "data"} {
		file := filepath.Join(dir, name+".sql")
		rig.Must(t, "sh", "-c", "zcat "+filepath.Join(share, name+".sql.gz")+" >"+file)
		ended(psql("zabbix", "-o", os.DevNull, "-1", "-f", file))
	}

	port := freeLow(t)
	address := "127.0.0.1:" + port
	conf := filepath.Join(dir, "zabbix.conf")
	rig.Write(t, conf, fmt.Sprintf(`LogType=console
AllowRoot=1
ListenIP=127.0.0.1
ListenPort=%s
SocketDir=%s
DBHost=%s
DBName=zabbix
DBUser=zabbix
StartPollers=1
StartPingers=0
StartDiscoverers=0
StartHTTPPollers=0
CacheUpdateFrequency=1
`, port, dir, dir))
	z := pages(t, dir, "127.0.0.1", port)
	z.furnish(rig.Read(t, filepath.Join(rig.Root(t), "deploy/zabbix/media_evenkeel.yaml")), c.REST(t), token)
	rig.StartCmd(t, rig.Foreign(t, "usr/sbin/zabbix_server", "-f", "-c", conf))

	send := func(value int) {
		t.Helper()
		rig.Until(t, 60*time.Second, "Zabbix takes a value", func() string {
			answer, err := zabbixSend(address, "db-1", "queue", strconv.Itoa(value))
			if err != nil {
				return err.Error()
			}
			if !strings.Contains(answer, "processed: 1; failed: 0") {
				return answer
			}
			return ""
		})
	}
	send(812)
	t.Logf("value to service in %s", r.becomes(60*time.Second, "the problem is seen", map[string]string{"component/db": "major", "service/shop": "major"}))
	var m mapAnswer
	c.JSON(t, &m, "map")
	if len(m.Causes) != 1 || m.Causes[0].Ref != "component/db" || !strings.Contains(m.Causes[0].Text, "Queue too long on db-1 since "+time.Now().UTC().Format("2006-")) ||
		!strings.Contains(m.Causes[0].Text, "The queue is 812 long") {
		t.Errorf("causes: %+v", m.Causes)
	}
	var in incidentsAnswer
	c.JSON(t, &in, "incident", "list")
	if len(in.Incidents) != 1 || in.Incidents[0].Cause != "component/db" || in.Incidents[0].State != "open" || strings.Join(in.Incidents[0].Services, " ") != "service/shop" {
		t.Errorf("incidents: %+v", in)
	}
	rig.Until(t, 30*time.Second, "Zabbix says that its message was sent", func() string {
		var alerts []struct{ Status, Error, Retries string }
		z.call("alert.get", object{"output": []string{"status", "error", "retries"}, "filter": object{"sendto": "evenkeel"}}, &alerts)
		for _, a := range alerts {
			if a.Status != "1" || a.Error != "" {
				return fmt.Sprintf("%+v", alerts)
			}
		}
		if len(alerts) == 0 {
			return "there is none"
		}
		return ""
	})
	send(3)
	r.becomes(60*time.Second, "the end of the problem is seen", map[string]string{"component/db": "ok", "service/shop": "ok"})
}
