/* Prints "rank R of N on HOST, sum S": S is the sum of all ranks + 1, so each has heard from all. */
#include <mpi.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv) {
    int rank, size, length, mine, sum;
    char host[MPI_MAX_PROCESSOR_NAME];

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Get_processor_name(host, &length);
    mine = rank + 1;
    MPI_Allreduce(&mine, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    printf("rank %d of %d on %s, sum %d\n", rank, size, host, sum);
    fflush(stdout);
    MPI_Barrier(MPI_COMM_WORLD);
    /* No MPI_Finalize: in MPICH 4.0.2 over UCX one rank can wait there for another that is already in PMI's
       barrier (pmodels/mpich#6596); every tenth run did not end. */
    _exit(0);
}
