// SPDX-License-Identifier: MIT
//
// Reads the definition of a set: the set's own keys, then each resource, then
// what must hold between them.

#include "proto/setdef.h"

#include <assert.h>
#include <string.h>

#include <sodium.h>

#include "proto/setdef_yaml.h"
#include "proto/text.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define LIMIT_MAX_MS (24 * 60 * 60 * 1000)

const char *fleet_resource_kind_word(fleet_resource_kind_t kind) {
    static const char *const words[] = {
        [FLEET_RESOURCE_DISK_GROUP] = "disk_group",
        [FLEET_RESOURCE_FILESYSTEM] = "filesystem",
        [FLEET_RESOURCE_ADDRESS] = "address",
        [FLEET_RESOURCE_SERVICE] = "service",
    };
    assert((size_t)kind < COUNT(words));
    return words[kind];
}

// ---------------------------------------------------------------------- the
// set

static void read_nodes(const fleet_yaml_doc_t *doc, const yaml_set_t *yaml,
                       fleet_setdef_t *ret) {
    fleet_facts_t *facts = &ret->facts;
    for (unsigned i = 0; i < yaml->nodes_count; i++) {
        char at[32];
        snprintf(at, sizeof(at), "nodes[%u]", i);
        fleet_name_t name = "";
        if (!fleet_yaml_name(doc, at, yaml->nodes[i], &name)) {
            continue;
        }
        for (uint32_t j = 0; j < facts->nodes_n; j++) {
            if (strcmp(facts->nodes[j].name, name) == 0) {
                fleet_yaml_complain(doc, at, "%s stands twice", name);
            }
        }
        if (strcmp(name, ret->set) == 0) {
            fleet_yaml_complain(doc, at,
                                "%s is the set's own name; sets and nodes "
                                "share one name space",
                                name);
        }
        FLEET_COPY(facts->nodes[facts->nodes_n].name, name);
        facts->nodes_n++;
    }
}

static void read_home(const fleet_yaml_doc_t *doc, const yaml_set_t *yaml,
                      fleet_facts_t *facts) {
    if (!fleet_yaml_name(doc, "home", yaml->home, &facts->home) ||
        yaml->home == NULL || facts->nodes_n == 0) {
        return;
    }
    for (uint32_t i = 0; i < facts->nodes_n; i++) {
        if (strcmp(facts->nodes[i].name, facts->home) == 0) {
            return;
        }
    }
    fleet_yaml_complain(doc, "home", "home %s is not one of nodes",
                        facts->home);
}

static void read_policies(const fleet_yaml_doc_t *doc, const yaml_set_t *yaml,
                          fleet_facts_t *facts) {
    static const char *const takeovers[] = {
        [fleet_takeover_MANUAL] = "manual",
        [fleet_takeover_AUTO] = "auto",
    };
    static const char *const boots[] = {
        [fleet_at_boot_AS_BEFORE] = "as-before",
        [fleet_at_boot_MANUAL] = "manual",
    };
    static const char *const lapses[] = {
        [fleet_without_lease_KEEP] = "keep",
        [fleet_without_lease_SILENCE] = "silence",
        [fleet_without_lease_STOP] = "stop",
    };
    size_t word = fleet_takeover_MANUAL;
    fleet_yaml_word(doc, "takeover", yaml->takeover, takeovers,
                    COUNT(takeovers), &word);
    facts->takeover = (fleet_takeover_t)word;
    word = fleet_at_boot_AS_BEFORE;
    fleet_yaml_word(doc, "boot", yaml->boot, boots, COUNT(boots), &word);
    facts->boot = (fleet_at_boot_t)word;
    word = fleet_without_lease_KEEP;
    fleet_yaml_word(doc, "without_lease", yaml->without_lease, lapses,
                    COUNT(lapses), &word);
    facts->without_lease = (fleet_without_lease_t)word;
}

// --------------------------------------------------------------------
// resources

// Its kind and what all kinds have; NULL if it is not exactly one kind.
static const yaml_common_t *find_kind(const yaml_resource_t *yaml,
                                      fleet_resource_kind_t *ret_kind) {
    const struct {
        fleet_resource_kind_t kind;
        const yaml_common_t *common;
    } kinds[] = {
        {FLEET_RESOURCE_DISK_GROUP, (const yaml_common_t *)yaml->disk_group},
        {FLEET_RESOURCE_FILESYSTEM, (const yaml_common_t *)yaml->filesystem},
        {FLEET_RESOURCE_ADDRESS, (const yaml_common_t *)yaml->address},
        {FLEET_RESOURCE_SERVICE, (const yaml_common_t *)yaml->service},
    };
    const yaml_common_t *found = NULL;
    for (size_t i = 0; i < COUNT(kinds); i++) {
        if (kinds[i].common == NULL) {
            continue;
        }
        if (found != NULL) {
            return NULL;
        }
        found = kinds[i].common;
        *ret_kind = kinds[i].kind;
    }
    return found;
}

static const fleet_resource_t *find_resource(const fleet_setdef_t *setdef,
                                             const char *name) {
    for (uint32_t i = 0; i < setdef->resources_n; i++) {
        if (strcmp(setdef->resources[i].name, name) == 0) {
            return &setdef->resources[i];
        }
    }
    return NULL;
}

// "service", "service-2" ...: the kind and which of its kind it is.  A name has
// no underscore, so that of a disk group is "disk-group".
static void default_name(const fleet_setdef_t *setdef, fleet_resource_t *ret) {
    unsigned nth = 1;
    for (uint32_t i = 0; i < setdef->resources_n; i++) {
        if (setdef->resources[i].kind == ret->kind) {
            nth++;
        }
    }
    const char *word = ret->kind == FLEET_RESOURCE_DISK_GROUP
                           ? "disk-group"
                           : fleet_resource_kind_word(ret->kind);
    if (nth == 1) {
        FLEET_COPY(ret->name, word);
    } else {
        FLEET_FORMAT(ret->name, "%s-%u", word, nth);
    }
}

static void read_name(setdef_reader_t *reader, const char *name,
                      const fleet_setdef_t *setdef, fleet_resource_t *ret) {
    const char *at = fleet_setdef_at(reader, "name");
    if (name == NULL) {
        default_name(setdef, ret);
    } else if (!fleet_yaml_name(reader->doc, at, name, &ret->name)) {
        return;
    }
    if (find_resource(setdef, ret->name) != NULL) {
        fleet_complaint_t *complaint = fleet_yaml_complain(
            reader->doc, at, "two resources have the name \"%s\"", ret->name);
        FLEET_COPY(complaint->hint, "give each a `name` of its own");
    }
}

static void complain_need(setdef_reader_t *reader, const char *at,
                          const char *need, const yaml_set_t *yaml,
                          const fleet_setdef_t *setdef) {
    for (unsigned i = setdef->resources_n; i < yaml->resources_count; i++) {
        fleet_resource_kind_t kind;
        const yaml_common_t *common = find_kind(&yaml->resources[i], &kind);
        if (common != NULL && common->name != NULL &&
            strcmp(common->name, need) == 0) {
            fleet_yaml_complain(reader->doc, at,
                                "needs \"%s\", which does not stand above it; "
                                "resources start in the order listed",
                                need);
            return;
        }
    }
    const char *names[FLEET_RESOURCES_MAX];
    for (uint32_t i = 0; i < setdef->resources_n; i++) {
        names[i] = setdef->resources[i].name;
    }
    const char *nearest = fleet_name_nearest(need, names, setdef->resources_n);
    if (nearest != NULL) {
        fleet_yaml_complain(reader->doc, at,
                            "needs \"%s\", which is no resource; \"%s\"?", need,
                            nearest);
    } else {
        fleet_yaml_complain(reader->doc, at,
                            "needs \"%s\", which is no resource of this set",
                            need);
    }
}

static void read_needs(setdef_reader_t *reader, const yaml_common_t *common,
                       const yaml_set_t *yaml, const fleet_setdef_t *setdef,
                       fleet_resource_t *ret) {
    if (!fleet_yaml_has(reader->doc, fleet_setdef_at(reader, "needs"))) {
        ret->needs = (UINT32_C(1) << setdef->resources_n) - 1;
        return;
    }
    for (unsigned i = 0; i < common->needs_count; i++) {
        const char *need = common->needs[i];
        const fleet_resource_t *needed = find_resource(setdef, need);
        if (needed != NULL) {
            ret->needs |= UINT32_C(1) << (needed - setdef->resources);
            continue;
        }
        char key[24];
        snprintf(key, sizeof(key), "needs[%u]", i);
        complain_need(reader, fleet_setdef_at(reader, key), need, yaml, setdef);
    }
}

static void read_limits(setdef_reader_t *reader, const yaml_limit_t *limit,
                        fleet_resource_t *ret) {
    ret->start_ms = FLEET_START_MS_DEFAULT;
    ret->stop_ms = FLEET_STOP_MS_DEFAULT;
    if (limit == NULL) {
        return;
    }
    fleet_yaml_duration(reader->doc, fleet_setdef_at(reader, "limit.start"),
                        limit->start, 1, LIMIT_MAX_MS, &ret->start_ms);
    fleet_yaml_duration(reader->doc, fleet_setdef_at(reader, "limit.stop"),
                        limit->stop, 1, LIMIT_MAX_MS, &ret->stop_ms);
}

static void read_kind(setdef_reader_t *reader, const yaml_resource_t *yaml,
                      fleet_resource_t *ret) {
    switch (ret->kind) {
    case FLEET_RESOURCE_DISK_GROUP:
        fleet_setdef_read_disk_group(reader, yaml->disk_group,
                                     &ret->disk_group);
        break;
    case FLEET_RESOURCE_FILESYSTEM:
        fleet_setdef_read_filesystem(reader, yaml->filesystem,
                                     &ret->filesystem);
        break;
    case FLEET_RESOURCE_ADDRESS:
        fleet_setdef_read_address(reader, yaml->address, &ret->address);
        break;
    case FLEET_RESOURCE_SERVICE:
        fleet_setdef_read_service(reader, yaml->service, &ret->service);
        break;
    default:
        assert(false);
    }
}

// Of one kind that a set may have once.
static const fleet_resource_t *find_first(const fleet_setdef_t *setdef,
                                          fleet_resource_kind_t kind) {
    for (uint32_t i = 0; i < setdef->resources_n; i++) {
        if (setdef->resources[i].kind == kind) {
            return &setdef->resources[i];
        }
    }
    return NULL;
}

// -------------------------------------------------- between resources and
// facts

static bool needs_in_the_end(const fleet_setdef_t *setdef, uint32_t needs,
                             uint32_t wanted) {
    // What is needed stands above, so going up once collects all of it.
    for (uint32_t i = setdef->resources_n; i > 0; i--) {
        if ((needs & (UINT32_C(1) << (i - 1))) != 0) {
            needs |= setdef->resources[i - 1].needs;
        }
    }
    return (needs & wanted) != 0;
}

static void check_filesystem(setdef_reader_t *reader,
                             const fleet_setdef_t *setdef,
                             const fleet_resource_t *filesystem) {
    const fleet_resource_t *group =
        find_first(setdef, FLEET_RESOURCE_DISK_GROUP);
    if (group == NULL) {
        fleet_yaml_complain(reader->doc, fleet_setdef_at(reader, ""),
                            "filesystem has no disk_group above it");
    } else if (!needs_in_the_end(setdef, filesystem->needs,
                                 UINT32_C(1) << (group - setdef->resources))) {
        fleet_yaml_complain(reader->doc, fleet_setdef_at(reader, "needs"),
                            "filesystem must need the disk group \"%s\"",
                            group->name);
    }
    for (uint32_t i = 0; i < setdef->resources_n; i++) {
        const fleet_resource_t *other = &setdef->resources[i];
        if (other->kind == FLEET_RESOURCE_FILESYSTEM &&
            strcmp(other->filesystem.mount, filesystem->filesystem.mount) ==
                0) {
            fleet_yaml_complain(reader->doc, fleet_setdef_at(reader, "mount"),
                                "\"%s\" is mounted at %s already", other->name,
                                other->filesystem.mount);
        }
    }
}

static void check_single(setdef_reader_t *reader, const fleet_setdef_t *setdef,
                         const fleet_resource_t *resource) {
    if (resource->kind == FLEET_RESOURCE_FILESYSTEM) {
        check_filesystem(reader, setdef, resource);
    }
    bool once = resource->kind == FLEET_RESOURCE_DISK_GROUP ||
                resource->kind == FLEET_RESOURCE_ADDRESS;
    if (once && find_first(setdef, resource->kind) != NULL) {
        fleet_complaint_t *complaint =
            fleet_yaml_complain(reader->doc, fleet_setdef_at(reader, ""),
                                "a second %s; a set has one",
                                fleet_resource_kind_word(resource->kind));
        if (resource->kind == FLEET_RESOURCE_ADDRESS) {
            FLEET_COPY(complaint->hint, "ip: [...] lists all of its addresses");
        }
    }
}

static void add_facts(fleet_setdef_t *setdef, const fleet_resource_t *resource,
                      bool is_named) {
    fleet_facts_t *facts = &setdef->facts;
    facts->start_ms += resource->start_ms;
    facts->stop_ms += resource->stop_ms;
    if (resource->kind == FLEET_RESOURCE_DISK_GROUP) {
        FLEET_COPY(facts->disk_group, is_named ? resource->name : setdef->set);
        FLEET_COPY(facts->driver, resource->disk_group.driver);
    } else if (resource->kind == FLEET_RESOURCE_ADDRESS) {
        const fleet_address_t *address = &resource->address;
        facts->addresses_n = address->ips_n;
        for (uint32_t i = 0; i < address->ips_n; i++) {
            FLEET_COPY(facts->addresses[i].address, address->ips[i]);
        }
        FLEET_COPY(facts->mac, address->mac);
    }
}

static void read_resource(const fleet_yaml_doc_t *doc, const yaml_set_t *yaml,
                          unsigned index, fleet_setdef_t *setdef) {
    const yaml_resource_t *from = &yaml->resources[index];
    setdef_reader_t reader = {.doc = doc};
    fleet_resource_kind_t kind;
    const yaml_common_t *common = find_kind(from, &kind);
    if (common == NULL) {
        snprintf(reader.path, sizeof(reader.path), "resources[%u]", index);
        fleet_complaint_t *complaint = fleet_yaml_complain(
            doc, reader.path, "a resource has exactly one key, its kind");
        FLEET_COPY(complaint->hint,
                   "one of: disk_group filesystem address service");
        return;
    }
    int length = snprintf(reader.path, sizeof(reader.path), "resources[%u].%s",
                          index, fleet_resource_kind_word(kind));
    assert(length > 0 && (size_t)length < sizeof(reader.path));
    reader.base = (size_t)length;
    // Added only when it is whole: until then the list is what stands above.
    fleet_resource_t resource;
    memset(&resource, 0, sizeof(resource));
    resource.kind = kind;
    read_name(&reader, common->name, setdef, &resource);
    read_needs(&reader, common, yaml, setdef, &resource);
    read_limits(&reader, common->limit, &resource);
    read_kind(&reader, from, &resource);
    check_single(&reader, setdef, &resource);
    add_facts(setdef, &resource, common->name != NULL);
    setdef->resources[setdef->resources_n++] = resource;
}

static void read_set(const fleet_yaml_doc_t *doc, const yaml_set_t *yaml,
                     fleet_setdef_t *ret) {
    fleet_yaml_name(doc, "set", yaml->set, &ret->set);
    fleet_yaml_text(doc, "about", yaml->about, ret->about, sizeof(ret->about));
    fleet_yaml_text(doc, "contact", yaml->contact, ret->contact,
                    sizeof(ret->contact));
    read_nodes(doc, yaml, ret);
    read_home(doc, yaml, &ret->facts);
    read_policies(doc, yaml, &ret->facts);
    for (unsigned i = 0; i < yaml->resources_count; i++) {
        read_resource(doc, yaml, i, ret);
    }
}

fleet_err_t fleet_setdef_read(const char *yaml, size_t size,
                              fleet_setdef_t *ret_setdef,
                              fleet_complaints_t *ret_complaints) {
    memset(ret_complaints, 0, sizeof(*ret_complaints));
    if (size > FLEET_YAML_MAX) {
        fleet_complaints_add(ret_complaints, 0, 0,
                             "%zu bytes; a definition has at most %d", size,
                             FLEET_YAML_MAX);
        return FLEET_BAD_FILE;
    }
    fleet_yaml_doc_t *doc;
    fleet_err_t err =
        fleet_yaml_load(yaml, size, &fleet_setdef_schema, ret_complaints, &doc);
    if (err != FLEET_OK) {
        return err;
    }
    fleet_setdef_t setdef;
    memset(&setdef, 0, sizeof(setdef));
    read_set(doc, fleet_yaml_data(doc), &setdef);
    fleet_yaml_destroy(&doc);
    fleet_complaints_sort(ret_complaints);
    if (ret_complaints->n > 0) {
        return FLEET_BAD_FILE;
    }
    crypto_generichash(setdef.facts.digest, sizeof(setdef.facts.digest),
                       (const unsigned char *)yaml, size, NULL, 0);
    *ret_setdef = setdef;
    return FLEET_OK;
}
