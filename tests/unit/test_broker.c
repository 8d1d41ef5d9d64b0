// SPDX-License-Identifier: MIT
//
// A whole broker in a process of its own, two nodes that only pretend, and a
// real client: a site is made, a set is defined, started, moved and stopped,
// and the broker is killed and started again.

#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <sqlite3.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <zmq.h>

#include "broker/shell.h"
#include "proto/client.h"
#include "proto/codec.h"
#include "proto/text.h"
#include "tests/unit/moment.h"

extern char **environ;

#define WAIT_MS 10000

typedef struct world {
    char folder[64];
    broker_settings_t settings;
    fleet_key_pair_t broker;
    fleet_key_pair_t admin;
    fleet_key_pair_t monitor;
    fleet_key_pair_t nodes[2];
    pid_t broker_pid;
    pid_t node_pids[2];
    fleet_client_t *client;
    fleet_message_t ask;
    fleet_message_t answer;
    fleet_transfer_t transfer;
} world_t;

// ------------------------------------------------------------------- processes

static uint16_t free_port(void) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static shell_t *make_shell(const world_t *world) {
    shell_t *shell = shell_new("none");
    shell->settings = world->settings;
    shell->pair = world->broker;
    fleet_sign_pair_derive(&shell->pair, &shell->sign);
    return shell;
}

// This program again, in another part: a process that has libzmq's threads must
// not go on after a fork.  What it has to know is in a file.
static pid_t begin(const world_t *world, const char *part) {
    char path[96];
    char *arguments[] = {"test_broker", (char *)(uintptr_t)part, path, NULL};
    pid_t pid = 0;
    snprintf(path, sizeof path, "%s/world", world->folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(world, sizeof *world, 1, file), 1);
    fclose(file);
    assert_int_equal(
        posix_spawn(&pid, "/proc/self/exe", NULL, NULL, arguments, environ), 0);
    return pid;
}

static void run_broker(const world_t *world) {
    shell_t *shell = make_shell(world);
    int status = broker_loop_run(shell);
    shell_destroy(&shell);
    exit(status);
}

// Returns when it listens: a client that comes too early backs off.
static void start_broker(world_t *world) {
    const char *port = strrchr(world->settings.control, ':') + 1;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {htonl(INADDR_LOOPBACK)},
                                  .sin_port =
                                      htons((uint16_t)strtoul(port, NULL, 10))};
    world->broker_pid = begin(world, "broker");
    for (int i = 0; i < WAIT_MS / 10; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        assert_true(fd >= 0);
        int rc = connect(fd, (struct sockaddr *)&address, sizeof address);
        close(fd);
        if (rc == 0) {
            return;
        }
        moment();
    }
    fail_msg("the broker does not listen");
}

static int end_broker(world_t *world, int signal_number) {
    int status = 0;
    kill(world->broker_pid, signal_number);
    assert_int_equal(waitpid(world->broker_pid, &status, 0), world->broker_pid);
    world->broker_pid = 0;
    return status;
}

// ------------------------------------------------------------------ fake nodes

typedef struct fake {
    void *socket;
    const char *name;
    uint64_t session;
    fleet_parcel_t in;
    fleet_parcel_t out;
} fake_t;

static void fake_send(fake_t *fake, fleet_message_type_t type) {
    fake->out.message.type = type;
    while (!fleet_bus_send(fake->socket, NULL, &fake->out)) {
        zmq_pollitem_t item = {.socket = fake->socket, .events = ZMQ_POLLOUT};
        zmq_poll(&item, 1, 20);
    }
    memset(&fake->out, 0, sizeof fake->out);
}

static void fake_hello(fake_t *fake) {
    fleet_hello_t *hello = &fake->out.message.hello;
    hello->protocol = FLEET_PROTOCOL;
    hello->hello = 1;
    hello->slots = 2;
    FLEET_COPY(hello->site, "lab");
    FLEET_COPY(hello->node, fake->name);
    FLEET_COPY(hello->version, "0.1.0");
    FLEET_COPY(hello->boot_id, fake->name);
    FLEET_COPY(hello->agent_id, "agent");
    FLEET_COPY(hello->kernel, "6.1");
    FLEET_COPY(hello->kernel_id, "kernel");
    fake_send(fake, FLEET_MESSAGE_hello);
}

static void fake_step(fake_t *fake, const char *set, uint64_t transfer,
                      const char *name) {
    fleet_step_t *step = &fake->out.message.step;
    step->transfer = transfer;
    step->us = 1000;
    step->ok = true;
    FLEET_COPY(step->set, set);
    FLEET_COPY(step->node, fake->name);
    FLEET_COPY(step->resource, "web");
    FLEET_COPY(step->step, name);
    fake_send(fake, FLEET_MESSAGE_step);
}

// Ends the process with 1 if a command comes without its definition.
static void need_definition(const fake_t *fake) {
    fleet_message_t definition;
    if (fake->in.frames_n != 1 ||
        fleet_decode(fake->in.frames[0].data, fake->in.frames[0].size,
                     &definition, NULL) != FLEET_OK ||
        definition.type != FLEET_MESSAGE_definition) {
        _exit(1);
    }
}

static void fake_obey(fake_t *fake) {
    const fleet_message_t in = fake->in.message;
    fleet_message_t *out = &fake->out.message;
    switch ((uint64_t)in.type) {
    case FLEET_MESSAGE_hello_ok:
        fake->session = in.hello_ok.session;
        break;
    case FLEET_MESSAGE_say_hello:
        fake_hello(fake);
        break;
    case FLEET_MESSAGE_watch_set:
        if (!in.watch_set.gone) {
            need_definition(fake);
            out->port.session = fake->session;
            out->port.rev = in.watch_set.rev;
            out->port.visible = true;
            FLEET_COPY(out->port.set, in.watch_set.set);
            fake_send(fake, FLEET_MESSAGE_port);
        }
        break;
    case FLEET_MESSAGE_prepare:
        need_definition(fake);
        out->prepared.session = in.prepare.session;
        out->prepared.transfer = in.prepare.transfer;
        out->prepared.ok = true;
        FLEET_COPY(out->prepared.set, in.prepare.set);
        fake_send(fake, FLEET_MESSAGE_prepared);
        break;
    case FLEET_MESSAGE_acquire:
        need_definition(fake);
        fake_step(fake, in.acquire.set, in.acquire.transfer, "start");
        out->acquired.session = in.acquire.session;
        out->acquired.token = in.acquire.token;
        FLEET_COPY(out->acquired.set, in.acquire.set);
        fake_send(fake, FLEET_MESSAGE_acquired);
        break;
    case FLEET_MESSAGE_release:
        fake_step(fake, in.release.set, in.release.transfer, "stop");
        out->closed.session = in.release.session;
        out->closed.token = in.release.token;
        FLEET_COPY(out->closed.set, in.release.set);
        FLEET_COPY(out->closed.why, "release");
        fake_send(fake, FLEET_MESSAGE_closed);
        break;
    default:
        break;
    }
}

static void run_node(const world_t *world, int i) {
    fleet_text_t why = "";
    fake_t fake = {.name = i == 0 ? "n1" : "n2"};
    fake.socket =
        fleet_bus_dealer(zmq_ctx_new(), world->settings.control,
                         world->broker.public_key, &world->nodes[i], why);
    fake_hello(&fake);
    for (;;) {
        zmq_pollitem_t item = {.socket = fake.socket, .events = ZMQ_POLLIN};
        zmq_poll(&item, 1, 1000);
        while (fleet_bus_recv(fake.socket, NULL, NULL, &fake.in, &why) ==
               FLEET_RECV_OK) {
            fake_obey(&fake);
            fleet_parcel_clear(&fake.in);
        }
    }
}

// The part that this process has, if it is not the test's own.
static void play(const char *part, const char *path) {
    world_t *world = calloc(1, sizeof *world);
    FILE *file = fopen(path, "r");
    assert_non_null(world);
    assert_non_null(file);
    assert_int_equal(fread(world, sizeof *world, 1, file), 1);
    fclose(file);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getenv("FLEET_TEST_LOG") == NULL) {
        assert_non_null(freopen("/dev/null", "w", stderr));
    }
    fleet_keys_init();
    if (strcmp(part, "broker") == 0) {
        run_broker(world);
    }
    run_node(world, strcmp(part, "n1") == 0 ? 0 : 1);
}

// ---------------------------------------------------------------------- client

static fleet_client_t *connect_as(const world_t *world,
                                  const fleet_key_pair_t *pair) {
    fleet_client_config_t config = {.brokers_n = 1, .timeout_ms = WAIT_MS};
    fleet_client_t *client = NULL;
    fleet_reason_t reason;
    config.repeat_ms = 100;
    config.pair = *pair;
    memcpy(config.brokers[0].key, world->broker.public_key, FLEET_KEY_SIZE);
    FLEET_COPY(config.brokers[0].control, world->settings.control);
    if (fleet_client_new(&config, &client, &reason) != FLEET_OK) {
        print_error("%s: %s\n", reason.code, reason.text);
        return NULL;
    }
    return client;
}

// Ends the broker, and starts it again.
static int restart_broker(world_t *world, int signal_number) {
    int status = end_broker(world, signal_number);
    start_broker(world);
    return status;
}

static fleet_message_type_t ask(world_t *world, fleet_message_type_t type,
                                char *id) {
    world->ask.type = type;
    fleet_client_id(*(fleet_id_t *)(void *)id);
    assert_int_equal(fleet_client_request(world->client, &world->ask, WAIT_MS,
                                          &world->answer),
                     FLEET_OK);
    return world->answer.type;
}

static void admit(world_t *world, fleet_role_t role, const char *name,
                  const fleet_key_pair_t *pair) {
    fleet_key_change_t *change = &world->ask.key_change;
    memset(change, 0, sizeof *change);
    change->admit = true;
    change->role = role;
    FLEET_COPY(change->name, name);
    memcpy(change->key, pair->public_key, FLEET_KEY_SIZE);
    assert_int_equal(ask(world, FLEET_MESSAGE_key_change, change->request),
                     FLEET_MESSAGE_done);
}

static fleet_message_type_t apply(world_t *world, const char *yaml) {
    memset(&world->ask.apply, 0, sizeof world->ask.apply);
    FLEET_COPY(world->ask.apply.yaml, yaml);
    return ask(world, FLEET_MESSAGE_apply, world->ask.apply.request);
}

// Asks until it is admitted, for a node may not have said yet what it sees, and
// follows it to its end.
static fleet_outcome_t transfer(world_t *world, fleet_verb_t verb,
                                const char *node) {
    fleet_message_type_t type = FLEET_MESSAGE_refused;
    for (int i = 0; i < 100 && type == FLEET_MESSAGE_refused; i++) {
        fleet_request_t *request = &world->ask.request;
        memset(request, 0, sizeof *request);
        request->verb = verb;
        FLEET_COPY(request->set, "www");
        FLEET_COPY(request->node, node);
        type = ask(world, FLEET_MESSAGE_request, request->request);
        if (type == FLEET_MESSAGE_refused) {
            moment();
        }
    }
    if (type == FLEET_MESSAGE_transfer) {
        world->transfer = world->answer.transfer;
        return world->transfer.outcome;
    }
    if (type != FLEET_MESSAGE_accepted) {
        print_error("%s\n", world->answer.refused.reasons[0].text);
    }
    assert_int_equal(type, FLEET_MESSAGE_accepted);
    assert_int_equal(fleet_client_follow(world->client,
                                         world->answer.accepted.transfer, "www",
                                         WAIT_MS, NULL, NULL, &world->transfer),
                     FLEET_OK);
    return world->transfer.outcome;
}

// ---------------------------------------------------------------------- setup

static const char yaml[] =
    "format: 1\n"
    "set: www\n"
    "resources:\n"
    "  - service: {name: web, start: /bin/true, stop: /bin/true}\n";

static void run_site(world_t *world) {
    start_broker(world);
    world->client = connect_as(world, &world->admin);
    assert_non_null(world->client);
    admit(world, fleet_role_NODE, "n1", &world->nodes[0]);
    admit(world, fleet_role_NODE, "n2", &world->nodes[1]);
    world->node_pids[0] = begin(world, "n1");
    world->node_pids[1] = begin(world, "n2");
    assert_int_equal(apply(world, yaml), FLEET_MESSAGE_applied);
}

static int set_up(void **state) {
    world_t *world = calloc(1, sizeof *world);
    fleet_text_t why = "";
    assert_non_null(world);
    fleet_keys_init();
    fleet_key_pair_make(&world->broker);
    fleet_key_pair_make(&world->admin);
    fleet_key_pair_make(&world->monitor);
    fleet_key_pair_make(&world->nodes[0]);
    fleet_key_pair_make(&world->nodes[1]);
    snprintf(world->folder, sizeof world->folder, "/tmp/fleet-broker-XXXXXX");
    assert_non_null(mkdtemp(world->folder));
    broker_settings_t *settings = &world->settings;
    FLEET_COPY(settings->site, "lab");
    FLEET_COPY(settings->broker, "b1");
    FLEET_FORMAT(settings->control, "tcp://127.0.0.1:%u", free_port());
    FLEET_FORMAT(settings->events, "tcp://127.0.0.1:%u", free_port());
    FLEET_FORMAT(settings->store, "%s/broker.db", world->folder);
    settings->lease_ms = 60000;
    settings->margin_ms = 1000;
    settings->limits =
        (broker_limits_t){.nodes = 4, .sets = 4, .keys = 16, .requests = 64};
    shell_t *shell = make_shell(world);
    assert_int_equal(
        shell_found_site(shell, "adm", world->admin.public_key, why), FLEET_OK);
    shell_destroy(&shell);
    run_site(world);
    *state = world;
    return 0;
}

static int tear_down(void **state) {
    static const char *const ends[] = {"", "-wal", "-shm", ".lock"};
    world_t *world = *state;
    fleet_client_destroy(&world->client);
    pid_t pids[] = {world->broker_pid, world->node_pids[0],
                    world->node_pids[1]};
    for (int i = 0; i < 3; i++) {
        if (pids[i] > 0) {
            kill(pids[i], SIGKILL);
            waitpid(pids[i], NULL, 0);
        }
    }
    for (size_t i = 0; i < 4; i++) {
        char file[400];
        snprintf(file, sizeof file, "%s%s", world->settings.store, ends[i]);
        unlink(file);
    }
    char path[96];
    snprintf(path, sizeof path, "%s/world", world->folder);
    unlink(path);
    assert_int_equal(rmdir(world->folder), 0);
    free(world);
    return 0;
}

// ---------------------------------------------------------------------- tests

static void start_move_stop(void **state) {
    world_t *world = *state;
    assert_int_equal(transfer(world, fleet_verb_START, "n1"),
                     fleet_outcome_MOVED);
    uint64_t token = world->transfer.token;
    assert_true(token > 0);
    assert_int_equal(transfer(world, fleet_verb_MOVE, "n2"),
                     fleet_outcome_MOVED);
    const fleet_transfer_t *moved = &world->transfer;
    assert_true(moved->token > token);
    assert_true(moved->changed);
    assert_string_equal(moved->from, "n1");
    assert_string_equal(moved->to, "n2");
    assert_string_equal(moved->by, "admin:adm");
    assert_int_equal(moved->evidence, fleet_evidence_RELEASED);
    assert_int_equal(moved->steps_n, 2);
    assert_string_equal(moved->steps[0].step, "stop");
    assert_string_equal(moved->steps[0].node, "n1");
    assert_string_equal(moved->steps[1].step, "start");
    assert_true(moved->pause_us > 0);
    assert_true(moved->total_us >= moved->pause_us);
    assert_int_equal(transfer(world, fleet_verb_STOP, ""),
                     fleet_outcome_PARKED);
}

static void same_request_is_done_once(void **state) {
    world_t *world = *state;
    assert_int_equal(transfer(world, fleet_verb_START, "n1"),
                     fleet_outcome_MOVED);
    uint64_t first = world->transfer.transfer;
    // The same id again, long after its end: the whole end is the answer.
    assert_int_equal(fleet_client_request(world->client, &world->ask, WAIT_MS,
                                          &world->answer),
                     FLEET_OK);
    if (world->answer.type == FLEET_MESSAGE_accepted) {
        assert_int_equal(world->answer.accepted.transfer, first);
    } else {
        assert_int_equal(world->answer.type, FLEET_MESSAGE_transfer);
        assert_int_equal(world->answer.transfer.transfer, first);
        assert_int_equal(world->answer.transfer.steps_n, 1);
        assert_string_equal(world->answer.transfer.to, "n1");
    }
}

static void killed_broker_remembers(void **state) {
    world_t *world = *state;
    assert_int_equal(transfer(world, fleet_verb_MOVE, "n2"),
                     fleet_outcome_MOVED);
    uint64_t number = world->transfer.transfer;
    uint64_t token = world->transfer.token;
    assert_true(WIFSIGNALED(restart_broker(world, SIGKILL)));
    assert_int_equal(fleet_client_follow(world->client, number, "www", WAIT_MS,
                                         NULL, NULL, &world->transfer),
                     FLEET_OK);
    assert_int_equal(world->transfer.outcome, fleet_outcome_MOVED);
    assert_int_equal(world->transfer.token, token);
    assert_int_equal(world->transfer.steps_n, 2);
    // Its snapshot and its clean end are read again, too.
    assert_int_equal(restart_broker(world, SIGTERM), 0);
    assert_int_equal(fleet_client_follow(world->client, 0, "www", WAIT_MS, NULL,
                                         NULL, &world->transfer),
                     FLEET_OK);
    assert_int_equal(world->transfer.transfer, number);
}

static void on_row(void *context, const fleet_parcel_t *row) {
    uint64_t *rows = context;
    *rows = row == NULL ? 0 : *rows + 1;
}

static void monitor_reads_and_no_more(void **state) {
    world_t *world = *state;
    fleet_reason_t reason;
    fleet_end_t end;
    admit(world, fleet_role_MONITOR, "m1", &world->monitor);
    fleet_client_t *monitor = connect_as(world, &world->monitor);
    assert_non_null(monitor);
    static const fleet_message_type_t questions[] = {
        FLEET_MESSAGE_status_ask,  FLEET_MESSAGE_history_ask,
        FLEET_MESSAGE_entries_ask, FLEET_MESSAGE_check_ask,
        FLEET_MESSAGE_keys_ask,
    };
    for (size_t i = 0; i < sizeof questions / sizeof questions[0]; i++) {
        uint64_t rows = 0;
        memset(&world->ask, 0, sizeof world->ask);
        world->ask.type = questions[i];
        assert_int_equal(fleet_client_ask(monitor, &world->ask, on_row, &rows,
                                          &end, &reason),
                         FLEET_OK);
        assert_int_equal(rows, end.rows);
        assert_true(rows > 0 || questions[i] == FLEET_MESSAGE_history_ask);
    }
    memset(&world->ask, 0, sizeof world->ask);
    world->ask.type = FLEET_MESSAGE_show_ask;
    FLEET_COPY(world->ask.show_ask.set, "nfs");
    uint64_t rows = 0;
    assert_int_equal(
        fleet_client_ask(monitor, &world->ask, on_row, &rows, &end, &reason),
        FLEET_SET_UNKNOWN);
    memset(&world->ask, 0, sizeof world->ask);
    world->ask.type = FLEET_MESSAGE_apply;
    FLEET_COPY(world->ask.apply.request, "m-1");
    FLEET_COPY(world->ask.apply.yaml, yaml);
    assert_int_equal(
        fleet_client_request(monitor, &world->ask, WAIT_MS, &world->answer),
        FLEET_OK);
    assert_int_equal(world->answer.type, FLEET_MESSAGE_refused);
    assert_string_equal(world->answer.refused.reasons[0].code, "not-permitted");
    fleet_client_destroy(&monitor);
}

static void apply_says_what_is_different(void **state) {
    world_t *world = *state;
    assert_int_equal(apply(world,
                           "format: 1\n"
                           "set: www\n"
                           "about: ours\n"
                           "resources:\n"
                           "  - service: {name: web, start: /bin/true, "
                           "stop: /bin/true}\n"),
                     FLEET_MESSAGE_applied);
    assert_int_equal(world->answer.applied.rev, 2);
    assert_string_equal(world->answer.applied.diff, "+about: ours\n");
    assert_int_equal(apply(world, "format: 1\nset: www\nresorces: []\n"),
                     FLEET_MESSAGE_refused);
    const fleet_reason_t *reason = &world->answer.refused.reasons[0];
    assert_string_equal(reason->code, "bad-file");
    assert_non_null(strstr(reason->text, "line "));
}

// What each of these does to the journal of a broker that is down, its next
// start finds.
static void changed_journal_is_refused(void **state) {
    static const struct {
        const char *sql;
        const char *said;
    } changes[] = {
        {"UPDATE entries SET event = zeroblob(8) WHERE seq = 1", "entry 1 "},
        {"UPDATE entries SET signature = zeroblob(64) WHERE seq = 2",
         "entry 2 "},
        {"DELETE FROM entries WHERE seq = 5", "entry 5 is missing"},
        {"DELETE FROM entries WHERE seq = (SELECT max(seq) FROM entries)",
         "is missing: a snapshot says"},
        {"DELETE FROM snapshot; DELETE FROM entries WHERE seq > 1",
         "entry 1 does not end its commit"},
    };
    world_t *world = *state;
    char copy[400];
    fleet_text_t kept;
    char command[1024];
    assert_int_equal(end_broker(world, SIGTERM), 0);
    FLEET_COPY(kept, world->settings.store);
    snprintf(copy, sizeof copy, "%s.copy", kept);
    FLEET_COPY(world->settings.store, copy);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        sqlite3 *db = NULL;
        fleet_text_t why = "";
        snprintf(command, sizeof command, "cp %s %s", kept, copy);
        assert_int_equal(system(command), 0);
        assert_int_equal(sqlite3_open(copy, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, changes[i].sql, NULL, NULL, NULL),
                         SQLITE_OK);
        sqlite3_close(db);
        shell_t *shell = make_shell(world);
        assert_int_equal(shell_replay(shell, why), FLEET_STORE_FAILED);
        fleet_text_t ignored = "";
        store_close(&shell->store, false, ignored);
        shell_destroy(&shell);
        if (strstr(why, changes[i].said) == NULL) {
            fail_msg("\"%s\" does not say \"%s\"", why, changes[i].said);
        }
        snprintf(command, sizeof command, "rm -f %s*", copy);
        assert_int_equal(system(command), 0);
    }
    FLEET_COPY(world->settings.store, kept);
}

int main(int argc, char **argv) {
    if (argc == 3) {
        play(argv[1], argv[2]);
    }
    // They share one site; the last one breaks it.
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(start_move_stop),
        cmocka_unit_test(same_request_is_done_once),
        cmocka_unit_test(killed_broker_remembers),
        cmocka_unit_test(monitor_reads_and_no_more),
        cmocka_unit_test(apply_says_what_is_different),
        cmocka_unit_test(changed_journal_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
