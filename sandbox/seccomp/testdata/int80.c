// Enters the kernel as a 32-bit program would, and prints what getpid answers there.
#include <stdio.h>

int main(void)
{
	long answer;
	__asm__ volatile("int $0x80" : "=a"(answer) : "a"(20L) : "r8", "r9", "r10", "r11", "memory");
	printf("%ld\n", answer);
	return 0;
}
