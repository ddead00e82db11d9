/* A clock that jumps: what programs read of the time is ahead of the kernel's by what a file says, in ns: the first number for
   the time of day, the second for all clocks. Waits that end at a time end when the kernel's clock gets there, as they would have.
   Loaded with LD_PRELOAD by `jumping_clock.py`. CHAOS_CLOCK names the file, to which the name of the machine is added after a dot
   where there is such a file. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

static volatile int64_t *jumps;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("CHAOS_CLOCK");
  char own[4096];
  struct utsname machine;
  if (!path || uname(&machine) != 0) return;
  snprintf(own, sizeof own, "%s.%s", path, machine.nodename);
  int file = open(own, O_RDONLY | O_CLOEXEC);
  if (file < 0) file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  void *mapped = mmap(NULL, 16, PROT_READ, MAP_SHARED, file, 0);
  close(file);
  if (mapped != MAP_FAILED) jumps = mapped;
}

static int64_t ahead(clockid_t clock) {
  if (!jumps) return 0;
  switch (clock) {
  case CLOCK_REALTIME:
  case CLOCK_REALTIME_COARSE:
    return jumps[0] + jumps[1];
  case CLOCK_MONOTONIC:
  case CLOCK_MONOTONIC_RAW:
  case CLOCK_MONOTONIC_COARSE:
  case CLOCK_BOOTTIME:
    return jumps[1];
  default:
    return 0;
  }
}

static struct timespec moved(const struct timespec *at, int64_t by) {
  int64_t total = at->tv_sec * SECOND + at->tv_nsec + by;
  if (total < 0) total = 0;
  struct timespec made = {total / SECOND, total % SECOND};
  return made;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
  if (syscall(SYS_clock_gettime, clock, at) != 0) return -1;
  *at = moved(at, ahead(clock));
  return 0;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
  struct timespec now;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}

#define REAL(name, version) \
  static __typeof__(&name) real; \
  if (!real && !(real = (__typeof__(&name))dlvsym(RTLD_NEXT, #name, version))) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *at, struct timespec *left) {
  REAL(clock_nanosleep, "GLIBC_2.17");
  struct timespec until = flags & TIMER_ABSTIME ? moved(at, -ahead(clock)) : *at;
  return real(clock, flags, &until, left);
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict at) {
  REAL(sem_timedwait, "GLIBC_2.34");
  struct timespec until = moved(at, -ahead(CLOCK_REALTIME));
  return real(semaphore, &until);
}

int sem_clockwait(sem_t *restrict semaphore, clockid_t clock, const struct timespec *restrict at) {
  REAL(sem_clockwait, "GLIBC_2.34");
  struct timespec until = moved(at, -ahead(clock));
  return real(semaphore, clock, &until);
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict at) {
  REAL(pthread_cond_timedwait, "GLIBC_2.3.2");
  struct timespec until = moved(at, -ahead(CLOCK_REALTIME));
  return real(condition, mutex, &until);
}

int pthread_cond_clockwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex, clockid_t clock,
                           const struct timespec *restrict at) {
  REAL(pthread_cond_clockwait, "GLIBC_2.34");
  struct timespec until = moved(at, -ahead(clock));
  return real(condition, mutex, clock, &until);
}
