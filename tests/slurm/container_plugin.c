/* A stand-in for the container plugin of a site (Pyxis): the same options of srun, and no containers.
 *
 * It tells each task what the options were, in variables SPANK_CONTAINER_..., and starts it in the directory of
 * --container-workdir. Like the real one it refuses an image together with a second one, and options without a value.
 */

#include <slurm/spank.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

SPANK_PLUGIN(container_stand_in, 1)

enum { IMAGE, MOUNTS, NAME, WORKDIR, MOUNT_HOME, NO_MOUNT_HOME, WRITABLE, REMAP_ROOT, OPTIONS };

static char *given[OPTIONS];

static int note(int option, const char *value, int remote)
{
    if (value != NULL && *value == '\0') {
        slurm_error("container stand-in: an option has no value");
        return -1;
    }
    if (given[option] != NULL && value != NULL && strcmp(given[option], value) != 0) {
        slurm_error("container stand-in: an option was given twice: %s, %s", given[option], value);
        return -1;
    }
    free(given[option]);
    given[option] = strdup(value != NULL ? value : "1");
    return 0;
}

static struct spank_option options[] = {
    {"container-image", "IMAGE", "the container's image", 1, IMAGE, note},
    {"container-mounts", "SOURCE:TARGET[:FLAGS],...", "what it sees of the node", 1, MOUNTS, note},
    {"container-name", "NAME", "of a container that stays", 1, NAME, note},
    {"container-workdir", "DIRECTORY", "where the task starts", 1, WORKDIR, note},
    {"container-mount-home", NULL, "the home directory", 0, MOUNT_HOME, note},
    {"no-container-mount-home", NULL, "not the home directory", 0, NO_MOUNT_HOME, note},
    {"container-writable", NULL, "its root may be written", 0, WRITABLE, note},
    {"container-remap-root", NULL, "the user is root in it", 0, REMAP_ROOT, note},
};

static const char *variables[OPTIONS] = {
    "SPANK_CONTAINER_IMAGE", "SPANK_CONTAINER_MOUNTS", "SPANK_CONTAINER_NAME", "SPANK_CONTAINER_WORKDIR",
    "SPANK_CONTAINER_MOUNT_HOME", "SPANK_CONTAINER_NO_MOUNT_HOME", "SPANK_CONTAINER_WRITABLE",
    "SPANK_CONTAINER_REMAP_ROOT",
};

int slurm_spank_init(spank_t spank, int count, char **arguments)
{
    if (spank_context() != S_CTX_LOCAL && spank_context() != S_CTX_REMOTE)
        return 0;
    for (int option = 0; option < OPTIONS; option++)
        if (spank_option_register(spank, &options[option]) != ESPANK_SUCCESS)
            return -1;
    return 0;
}

int slurm_spank_task_init(spank_t spank, int count, char **arguments)
{
    for (int option = 0; option < OPTIONS; option++)
        if (given[option] != NULL && spank_setenv(spank, variables[option], given[option], 1) != ESPANK_SUCCESS)
            return -1;
    if (given[WORKDIR] != NULL && chdir(given[WORKDIR]) != 0) {
        slurm_error("container stand-in: cannot change to %s", given[WORKDIR]);
        return -1;
    }
    return 0;
}
